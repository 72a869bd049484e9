"""Colour fixes: give the decoded image the colours of the restored image.

Arrays are float32 (batch, 3, height, width), nominally in [0, 1], and cover the whole image.
"""

from collections.abc import Callable

import numpy as np

from ..tensors import Array

ColorFix = Callable[[Array, Array], Array]
"""Maps the decoded and the restored image to the corrected decoded image."""

_LEVELS = 5  # blurs of radius 1, 2, 4, 8 and 16
_VARIANCE_FLOOR = 1e-5  # avoids division by zero for a uniform image


def wavelet(decoded: Array, restored: Array) -> Array:
    """Combine the high frequencies of ``decoded`` with the low frequencies of ``restored``.

    The a-trous decomposition with the kernel [1 2 1] x [1 2 1] / 16 is linear. Adding the blurred
    difference is therefore equivalent to decomposing both (StableSR, Wang et al. 2023).
    """
    low: Array = restored - decoded
    for level in range(_LEVELS):
        low = _blur(low, 2**level)
    low += decoded
    return low


def adain(decoded: Array, restored: Array) -> Array:
    """Give each channel of ``decoded`` the mean and standard deviation of ``restored``.

    Huang and Belongie 2017, with the unbiased variance.
    """
    mean, std = _statistics(decoded)
    target_mean, target_std = _statistics(restored)
    fixed: Array = (decoded - mean) / std * target_std + target_mean
    return fixed


def none(decoded: Array, _restored: Array) -> Array:
    """Return ``decoded`` unchanged."""
    return decoded


COLOR_FIXES: dict[str, ColorFix] = {
    "wavelet": wavelet,
    "adain": adain,
    "none": none,
}


def _blur(image: Array, radius: int) -> Array:
    """Blur by weights 1/4, 1/2, 1/4 at -radius, 0, +radius along both axes, repeating the edges.

    Overwrites ``image``.
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
