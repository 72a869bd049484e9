"""Colour fixes: the decoded picture takes its colours from the restored one.

Arrays are float32 (batch, 3, height, width), nominally in [0, 1]. The whole picture is seen at once.
"""

from collections.abc import Callable

import numpy as np

from .engine import Array

_LEVELS = 5  # blurs of radius 1, 2, 4, 8 and 16
_VARIANCE_FLOOR = 1e-5  # keeps a uniform picture finite


def wavelet(decoded: Array, restored: Array) -> Array:
    """The high frequencies of ``decoded`` on the low frequencies of ``restored``.

    The a-trous decomposition with the kernel [1 2 1] x [1 2 1] / 16 is linear and its high part is
    the rest, so one blur of the difference does both (StableSR, Wang et al. 2023).
    """
    low = restored - decoded
    for level in range(_LEVELS):
        low = _blur(low, 2**level)
    return np.asarray(decoded + low)


def adain(decoded: Array, restored: Array) -> Array:
    """``decoded`` with the mean and standard deviation that each channel of ``restored`` has.

    Huang and Belongie 2017; the variance is the unbiased one.
    """
    mean, std = _statistics(decoded)
    target_mean, target_std = _statistics(restored)
    return np.asarray((decoded - mean) / std * target_std + target_mean)


def none(decoded: Array, restored: Array) -> Array:
    """``decoded`` as it is."""
    return decoded


COLOR_FIXES: dict[str, Callable[[Array, Array], Array]] = {
    "wavelet": wavelet,
    "adain": adain,
    "none": none,
}


def _blur(image: Array, radius: int) -> Array:
    """Weighted by 1/4, 1/2, 1/4 at -radius, 0, +radius along both axes; edges are repeated."""
    for axis in (-2, -1):
        size = image.shape[axis]
        index = np.arange(size)
        before = np.take(image, np.maximum(index - radius, 0), axis)
        after = np.take(image, np.minimum(index + radius, size - 1), axis)
        image = 0.5 * image + 0.25 * (before + after)
    return image


def _statistics(image: Array) -> tuple[Array, Array]:
    mean = image.mean(axis=(2, 3), keepdims=True)
    variance = image.var(axis=(2, 3), keepdims=True, ddof=1)
    return mean, np.sqrt(variance + np.float32(_VARIANCE_FLOOR))
