"""Colour fixes: give the decoded image the colours of the restored image.

Arrays are float32 (batch, 3, height, width), nominally in [0, 1], and cover the whole image.
"""

from collections.abc import Callable

import numpy as np

from ..tensors import Array

ColorFix = Callable[[Array, Array, float], Array]
"""Maps the decoded image, the restored image and a detail in [0, 1] to the corrected decoded image.

Detail 1 keeps the decoded image's high frequencies, 0 takes the restored image's, and values between
blend the two. The low frequencies, and with them the colours, do not depend on it."""

_LEVELS = 5  # blurs of radius 1, 2, 4, 8 and 16
_VARIANCE_FLOOR = 1e-5  # avoids division by zero for a uniform image


def wavelet(decoded: Array, restored: Array, detail: float = 1.0) -> Array:
    """Combine the high frequencies of ``decoded`` with the low frequencies of ``restored``.

    The a-trous decomposition with the kernel [1 2 1] x [1 2 1] / 16 is linear. Adding the blurred
    difference is therefore equivalent to decomposing both (StableSR, Wang et al. 2023). With detail 0
    the whole difference is added, and the result is ``restored``.
    """
    low = _low(restored - decoded)
    if detail < 1.0:
        low *= detail
        low += (restored - decoded) * (1.0 - detail)
    low += decoded
    return low


def adain(decoded: Array, restored: Array, detail: float = 1.0) -> Array:
    """Give each channel of ``decoded`` the mean and standard deviation of ``restored``.

    Huang and Belongie 2017, with the unbiased variance. The high frequencies are blended afterwards.
    """
    mean, std = _statistics(decoded)
    target_mean, target_std = _statistics(restored)
    fixed: Array = (decoded - mean) / std * target_std + target_mean
    return none(fixed, restored, detail)


def none(decoded: Array, restored: Array, detail: float = 1.0) -> Array:
    """Keep the colours of ``decoded``; blend the high frequencies only."""
    if detail == 1.0:
        return decoded
    high = restored - decoded
    high -= _low(high.copy())
    high *= 1.0 - detail
    high += decoded
    return high


COLOR_FIXES: dict[str, ColorFix] = {
    "wavelet": wavelet,
    "adain": adain,
    "none": none,
}


def _low(image: Array) -> Array:
    """Return the low frequencies: what is left after all blurs. Overwrites ``image``."""
    for level in range(_LEVELS):
        image = _blur(image, 2**level)
    return image


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
