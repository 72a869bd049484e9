"""The pool of training images: made once, kept in a file, cropped at random."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...runtime.files import whole_file
from ...runtime.tensors import SCALE
from .degrade import Degradation
from .images import Pixels, is_plain, log_uniform, numbered_image, texture
from .recipe import CLEAN, CONTRAST, EXACT, IMAGE_SIZE, TEXTURE, TEXTURED, ZOOM

ImageBatch = NDArray[np.uint8]  # (count, side, side, 3)

_IMAGES_PER_PROCESS = 64  # fewer are not worth the start of a process


def images(path: Path, count: int, seed: int, advance: Callable[[int], None]) -> ImageBatch:
    """Return ``count`` procedural images from a file, which is written first if needed.

    Image i is a function of (seed, i). An interrupted run leaves no file.
    """
    if path.is_file():
        kept: ImageBatch = np.load(path, mmap_mode="r")
        if len(kept) == count:
            return kept
    made = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for i, sharp in enumerate(_images(count, seed)):
        made[i] = sharp
        advance(1)
    with whole_file(path) as temporary:
        np.save(temporary, made)
    return made


def _images(count: int, seed: int) -> Iterator[ImageBatch]:
    """Yield images from as many processes as there are processors, if there are enough images."""
    make = partial(numbered_image, seed, IMAGE_SIZE)
    processes = min(os.cpu_count() or 1, count // _IMAGES_PER_PROCESS)
    if processes < 2:
        yield from map(make, range(count))
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as executor:
        yield from executor.map(make, range(count), chunksize=4)


def sharp_batch(
    pool: ImageBatch, random: np.random.Generator, batch: int, crop: int, grid: int = 1
) -> ImageBatch:
    """Return random crops, mirrored and rotated at random: uint8 (batch, crop, crop, 3).

    They begin at multiples of ``grid`` pixels.
    """
    crops = []
    for index in random.integers(len(pool), size=batch):
        y, x = random.integers((IMAGE_SIZE - crop) // grid + 1, size=2) * grid
        piece = np.rot90(pool[index, y : y + crop, x : x + crop], int(random.integers(4)))
        crops.append(piece[:, ::-1] if random.random() < 0.5 else piece)
    return np.stack(crops)


def pieces(
    pool: ImageBatch, numbers: Iterable[int], random: np.random.Generator, size: int
) -> ImageBatch:
    """Return a training piece of each numbered image: uint8 (batch, size, size, 3).

    Of plain images, the share EXACT stays as it is; all others become as soft as photographs.
    """
    return np.stack(
        [
            sharp_batch(pool[number][None], random, 1, size, grid=SCALE)[0]
            if is_plain(number) and random.random() < EXACT
            else photographic(pool[number], random, size)
            for number in numbers
        ]
    )


def photographic(sharp: Pixels, random: np.random.Generator, size: int) -> Pixels:
    """Return a piece of an image, as soft as photographs: uint8 (size, size, 3).

    Procedural images have edges of one pixel and strong contrasts. The piece is therefore enlarged
    up to ZOOM times, and its contrast is reduced to CONTRAST or more. Some pieces get a faint
    texture; otherwise networks learn to treat all fine detail as noise.
    """
    side = max(8, round(size / log_uniform(random, 1.0, ZOOM)))
    y, x = random.integers(IMAGE_SIZE - side + 1, size=2)
    window = np.rot90(sharp[y : y + side, x : x + side], int(random.integers(4)))
    image = Image.fromarray(np.ascontiguousarray(window))
    piece = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    level = piece.mean((0, 1)) + random.uniform(-20.0, 20.0)
    piece = level + (piece - piece.mean((0, 1))) * random.uniform(CONTRAST, 1.0)
    if random.random() < TEXTURED:
        amplitude = log_uniform(random, *TEXTURE)
        slope, stretch = random.uniform(0.4, 1.4), log_uniform(random, 1.0, 6.0)
        piece += amplitude * texture(random, size, slope, stretch)[..., None]
    soft: Pixels = np.rint(np.clip(piece, 0.0, 255.0)).astype(np.uint8)
    return soft


def degraded(hr: ImageBatch, random: np.random.Generator) -> ImageBatch:
    """Return the degraded, small version of each image of a batch."""
    degrade = Degradation(clean=CLEAN)
    return np.stack([degrade(sharp, random) for sharp in np.ascontiguousarray(hr)])


def as_tensor(batch: ImageBatch) -> Tensor:
    """Return uint8 (batch, h, w, 3) as float32 (batch, 3, h, w) in [0, 1], channels last in memory."""
    return torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2).float() / 255.0
