"""The mean and the spread of several images, pixel by pixel, without holding them."""

import math
from collections.abc import Iterator

import numpy as np

from ..tensors import Array

_ROWS = 256  # computed at a time
_SHARE = 0.999  # of the pixels that the spread's scale must hold
_STEPS = (1, 2, 5)  # white of the spread: 1, 2, 5, 10, 20, ... levels


class Statistics:
    """Exact sums over images (h, w, 3) of one shape, uint8 or uint16."""

    def __init__(self, height: int, width: int, dtype: "np.dtype[np.uint8] | np.dtype[np.uint16]"):
        wide = np.uint32 if np.dtype(dtype).itemsize == 1 else np.uint64
        self._dtype, self._count = np.dtype(dtype), 0
        self._sum, self._squares = (np.zeros((height, width, 3), wide) for _ in range(2))

    def add(self, image: Array) -> None:
        """Add an image."""
        for rows in _slices(len(image)):
            values = image[rows].astype(self._sum.dtype)
            self._sum[rows] += values
            values *= values
            self._squares[rows] += values
        self._count += 1

    def mean(self) -> Array:
        """Return the mean, rounded to the images' dtype."""
        mean = np.empty(self._sum.shape, self._dtype)
        for rows in _slices(len(mean)):
            mean[rows] = np.rint(self._sum[rows] / self._count)
        return mean

    def spread(self) -> Array:
        """Return the standard deviation (h, w) in levels of 255: the root mean square over R, G and B.

        The divisor is the number of images, as NumPy's ``std``.
        """
        spread = np.empty(self._sum.shape[:2], np.float32)
        unit = 255.0 / np.iinfo(self._dtype).max
        for rows in _slices(len(spread)):
            sums, squares = self._sum[rows].astype(np.uint64), self._squares[rows].astype(np.uint64)
            variance = (
                self._count * squares - sums * sums
            ) / self._count**2  # exact, never below 0
            spread[rows] = np.sqrt(variance.mean(axis=2)) * unit
        return spread


def white_level(spread: Array) -> int:
    """Return the levels that a spread image shows as white: the smallest of 1, 2, 5, 10, 20, 50, ...

    that 99.9 % of the pixels do not exceed. Round steps keep images of similar spread comparable.
    """
    top = float(np.quantile(spread, _SHARE))
    return next(level for level in _levels() if level >= min(top, 255.0))


def spread_image(spread: Array, white: int) -> Array:
    """Return a spread as grey (h, w) uint8, black for 0 and white for ``white`` levels or more."""
    return np.rint(np.minimum(spread / white, 1.0) * 255.0).astype(np.uint8)


def _levels() -> Iterator[int]:
    for exponent in range(math.ceil(math.log10(255)) + 1):
        yield from (step * 10**exponent for step in _STEPS)


def _slices(height: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, height, _ROWS))
