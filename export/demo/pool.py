"""The training pictures: made once, kept in a file, cropped at random."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .degrade import Degradation
from .images import procedural_picture
from .recipe import PICTURE

Pictures = NDArray[np.uint8]  # (count, side, side, 3)


def pictures(path: Path, count: int, seed: int, advance: Callable[[int], None]) -> Pictures:
    """``count`` procedural pictures from a file, made first if need be; picture i is a function of
    (seed, i), so a broken-off run leaves nothing to mend."""
    if path.is_file():
        kept: Pictures = np.load(path, mmap_mode="r")
        if len(kept) == count:
            return kept
    made = np.empty((count, PICTURE, PICTURE, 3), np.uint8)
    for i in range(count):
        made[i] = procedural_picture(np.random.default_rng([seed, i]), PICTURE)
        advance(1)
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, made)
    temporary.replace(path)
    return made


def sharp_batch(pool: Pictures, random: np.random.Generator, batch: int, crop: int) -> Pictures:
    """Random crops, mirrored and turned at random: uint8 (batch, crop, crop, 3)."""
    crops = []
    for index in random.integers(len(pool), size=batch):
        y, x = random.integers(PICTURE - crop + 1, size=2)
        piece = np.rot90(pool[index, y : y + crop, x : x + crop], int(random.integers(4)))
        crops.append(piece[:, ::-1] if random.random() < 0.5 else piece)
    return np.stack(crops)


def degraded(hr: Pictures, random: np.random.Generator) -> Pictures:
    """The small picture of each of a batch."""
    degrade = Degradation()
    return np.stack([degrade(picture, random) for picture in np.ascontiguousarray(hr)])


def as_tensor(batch: Pictures) -> Tensor:
    """uint8 (batch, h, w, 3) -> float32 (batch, 3, h, w) in [0, 1], channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2).float() / 255.0
