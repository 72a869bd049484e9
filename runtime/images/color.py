"""Colour fixes: the decoded image takes its colours from the restored one.

Arrays are float32 (batch, 3, height, width), nominally in [0, 1]. The whole image is seen at once.
"""

from collections.abc import Callable

import numpy as np

from ..tensors import Array

ColorFix = Callable[[Array, Array], Array]
"""From the decoded and the restored image to the decoded one in the restored one's colours."""

_LEVELS = 5  # blurs of radius 1, 2, 4, 8 and 16
_VARIANCE_FLOOR = 1e-5  # keeps a uniform image finite


def wavelet(decoded: Array, restored: Array) -> Array:
    """The high frequencies of ``decoded`` on the low frequencies of ``restored``.

    The a-trous decomposition with the kernel [1 2 1] x [1 2 1] / 16 is linear and its high part is
    the rest, so one blur of the difference does both (StableSR, Wang et al. 2023).
    """
    low: Array = restored - decoded
    for level in range(_LEVELS):
        low = _blur(low, 2**level)
    low += decoded
    return low


def adain(decoded: Array, restored: Array) -> Array:
    """``decoded`` with the mean and standard deviation that each channel of ``restored`` has.

    Huang and Belongie 2017; the variance is the unbiased one.
    """
    mean, std = _statistics(decoded)
    target_mean, target_std = _statistics(restored)
    fixed: Array = (decoded - mean) / std * target_std + target_mean
    return fixed


def none(decoded: Array, _restored: Array) -> Array:
    """``decoded`` as it is."""
    return decoded


COLOR_FIXES: dict[str, ColorFix] = {
    "wavelet": wavelet,
    "adain": adain,
    "none": none,
}


def _blur(image: Array, radius: int) -> Array:
    """Weighted by 1/4, 1/2, 1/4 at -radius, 0, +radius along both axes; edges are repeated.

    Uses ``image`` up.
    """
    for axis in (-2, -1):
        sides = np.empty_like(image)
        source, target = image.swapaxes(axis, -2), sides.swapaxes(axis, -2)
        inner = max(source.shape[-2] - radius, 0)
        target[..., :radius, :] = source[..., :1, :]
        target[..., radius:, :] = source[..., :inner, :]
        target[..., :inner, :] += source[..., radius:, :]
        target[..., inner:, :] += source[..., -1:, :]
        sides *= 0.25
        image *= 0.5
        sides += image
        image = sides
    return image


def _statistics(image: Array) -> tuple[Array, Array]:
    mean = image.mean(axis=(2, 3), keepdims=True)
    variance = image.var(axis=(2, 3), keepdims=True, ddof=1)
    return mean, np.sqrt(variance + np.float32(_VARIANCE_FLOOR))
