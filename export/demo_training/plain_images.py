"""Plain training images: flat, saturated and smooth areas, which dead leaves lack and users notice."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...runtime.tensors import SCALE

Pixels = NDArray[np.uint8]  # (height, width, 3)
Levels = NDArray[np.floating[Any]]  # the same, in [0, 255]
Kind = Callable[[np.random.Generator, int], Levels]

_INK, _SATURATED, _GREY = 0.2, 0.5, 0.6
"""Shares of colours: black or white below the first; below the second, channels are 0 or 255, each by chance;
below the third, any grey."""

_RENDERED = 0.5
"""Share of images on the grid of the small image, without a lens, as drawings and screenshots are."""

_CHECKS = 64
"""Most checks in a row: finer ones could not be told from grey in the small image."""

_CELLS = 12
"""Most cells of a colour chart in a row."""

_BLUR = (0.3, 1.5)  # standard deviation of the lens, in pixels


def plain_image(random: np.random.Generator, size: int) -> Pixels:
    """Return a flat, graded or checked image, or a few shapes: uint8 (size, size, 3)."""
    if random.random() < _RENDERED:
        image = _drawn(_RENDERED_KINDS, random, size // SCALE)
        return np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
    seen = _drawn(_KINDS, random, size).filter(ImageFilter.GaussianBlur(random.uniform(*_BLUR)))
    return np.asarray(seen)


def _drawn(kinds: Sequence[Kind], random: np.random.Generator, size: int) -> Image.Image:
    make = kinds[int(random.integers(len(kinds)))]
    return Image.fromarray(np.rint(np.clip(make(random, size), 0.0, 255.0)).astype(np.uint8))


def _color(random: np.random.Generator) -> Levels:
    share = random.random()
    if share < _INK:
        return np.full(3, random.integers(0, 2) * 255.0)
    if share < _SATURATED:
        return random.integers(0, 2, 3) * 255.0
    if share < _GREY:
        return np.full(3, random.uniform(0.0, 255.0))
    return random.uniform(0.0, 255.0, 3)


def _flat(random: np.random.Generator, size: int) -> Levels:
    return np.broadcast_to(_color(random), (size, size, 3)).copy()


def _gradient(random: np.random.Generator, size: int) -> Levels:
    angle = random.uniform(0.0, 2.0 * np.pi)
    y, x = np.mgrid[-1.0 : 1.0 : size * 1j, -1.0 : 1.0 : size * 1j]
    share = np.clip(0.5 + 0.5 * (x * np.cos(angle) + y * np.sin(angle)), 0.0, 1.0)[..., None]
    first, second = _color(random), _color(random)
    graded: Levels = (1.0 - share) * first + share * second
    return graded


def _checked(random: np.random.Generator, size: int) -> Levels:
    side = max(1, int(size / _CHECKS * np.exp(random.uniform(0.0, np.log(_CHECKS / 2)))))
    y, x = (np.indices((size, size)) + random.integers(0, size, (2, 1, 1))) // side
    return np.where(((x + y) % 2)[..., None], _color(random), _color(random))


def _shapes(random: np.random.Generator, size: int) -> Levels:
    """Rectangles and discs on a flat ground."""
    return _placed(random, size, discs=0.5)


def _rectangles(random: np.random.Generator, size: int) -> Levels:
    return _placed(random, size, discs=0.0)


def _placed(random: np.random.Generator, size: int, discs: float) -> Levels:
    """Draw a few shapes on a flat ground; ``discs`` is their share, the others are rectangles."""
    y, x = np.indices((size, size))
    image = _flat(random, size)
    for _ in range(random.integers(1, 8)):
        cx, cy, rx, ry = random.uniform((0, 0, 2, 2), (size, size, size / 3, size / 3))
        if random.random() < discs:
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1.0
        else:
            inside = (np.abs(x - cx) < rx) & (np.abs(y - cy) < ry)
        image[inside] = _color(random)
    return image


def _chart(random: np.random.Generator, size: int) -> Levels:
    """A grid of cells, each of a colour: as many colours and neighbours as an image can hold."""
    count = int(random.integers(3, _CELLS + 1))
    cells = np.stack([_color(random) for _ in range(count**2)]).reshape(count, count, 3)
    y, x = np.indices((size, size)) * count // size
    chart: Levels = cells[y, x]
    return chart


_KINDS = (_flat, _gradient, _checked, _shapes, _chart, _chart)
_RENDERED_KINDS = (_flat, _checked, _rectangles, _chart, _chart)
"""Of images on the grid: a gradient or a disc would be made of steps there."""
