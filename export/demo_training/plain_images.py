"""Plain training images: flat, saturated and smooth areas, which dead leaves lack and users notice."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]  # (height, width, 3)
Levels = NDArray[np.floating[Any]]  # the same, in [0, 255]

_SATURATED = 0.5
"""Share of colours whose channels are 0 or 255, each by chance: black, white and the six primaries."""

_BLUR = (0.3, 1.5)  # standard deviation of the lens, in pixels


def plain_image(random: np.random.Generator, size: int) -> Pixels:
    """Return a flat, graded, checked or divided image, or a few shapes: uint8 (size, size, 3)."""
    make = _KINDS[int(random.integers(len(_KINDS)))]
    levels = np.clip(make(random, size), 0.0, 255.0)
    image = Image.fromarray(np.rint(levels).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(*_BLUR))))


def _color(random: np.random.Generator) -> Levels:
    if random.random() < _SATURATED:
        return random.integers(0, 2, 3) * 255.0
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
    side = int(random.integers(4, size // 2))
    y, x = (np.indices((size, size)) + random.integers(0, size, (2, 1, 1))) // side
    return np.where(((x + y) % 2)[..., None], _color(random), _color(random))


def _shapes(random: np.random.Generator, size: int) -> Levels:
    """Rectangles and discs on a flat ground."""
    y, x = np.indices((size, size))
    image = _flat(random, size)
    for _ in range(random.integers(1, 8)):
        cx, cy, rx, ry = random.uniform((0, 0, 4, 4), (size, size, size / 3, size / 3))
        if random.random() < 0.5:
            inside = (np.abs(x - cx) < rx) & (np.abs(y - cy) < ry)
        else:
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1.0
        image[inside] = _color(random)
    return image


_KINDS: tuple[Callable[[np.random.Generator, int], Levels], ...] = (
    _flat,
    _gradient,
    _checked,
    _shapes,
)
