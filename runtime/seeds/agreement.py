"""Agreement: how well a result, reduced to the size of its input, shows what the input shows.

Needs no original and no network. Of several draws, the best by this measure contradicts the input least;
it is not the one that looks sharpest.
"""

import numpy as np
from numpy.typing import NDArray

from ..tensors import SCALE, Array

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, full range
_BLUE, _RED = 0.564, 0.713  # Cb and Cr from B - Y and R - Y
_ROUNDING = 1.0 / 12.0  # variance of rounding to 8 bits
_ROWS = 256  # of the input, at a time

Plane = NDArray[np.float64]


def agreement(image: Array, lr: Array) -> float:
    """Return the agreement of a result (4h, 4w, 3) with its input (h, w, 3) in dB; higher is better.

    Both are uint8 or uint16 sRGB. The result is reduced by the mean of every 4 x 4 pixels. With
    Y, Cb and Cr (BT.601) in levels of 255, and the magnitude g of the gradient of Y by central
    differences, the errors are mean squares over the image:

    - E_Y = mean (Y' - Y)^2, what is shown;
    - E_C = mean (Cb' - Cb)^2 + (Cr' - Cr)^2, departures of colour;
    - E_G = mean (g' - g)^2, departures of edges: edges that are new, lost, sharper or softer.

    The agreement is 10 log10(255^2 / (E_Y + E_C + E_G + 1/12)), a PSNR with two penalties. 1/12 is the
    error of rounding to 8 bits, so that equal images have 58.9 dB. Raise ValueError if the result is
    not four times as large.
    """
    if image.shape != (lr.shape[0] * SCALE, lr.shape[1] * SCALE, 3):
        raise ValueError(f"the result of {lr.shape} must be four times as large, got {image.shape}")
    luma, blue, red = _ycc(_reduced(image))
    luma_lr, blue_lr, red_lr = _ycc(_levels(lr))
    error = _mean_square(luma - luma_lr)
    error += _mean_square(blue - blue_lr) + _mean_square(red - red_lr)
    error += _mean_square(_gradient(luma) - _gradient(luma_lr))
    return float(10.0 * np.log10(255.0**2 / (error + _ROUNDING)))


def _reduced(image: Array) -> Array:
    """Return the means of 4 x 4 pixels, float64 in levels of 255; some rows at a time."""
    height, width = image.shape[0] // SCALE, image.shape[1] // SCALE
    small = np.empty((height, width, 3))
    for start in range(0, height, _ROWS):
        rows = image[start * SCALE : (start + _ROWS) * SCALE]
        cells = rows.reshape(-1, SCALE, width, SCALE, 3)
        small[start : start + _ROWS] = cells.mean(axis=(1, 3))
    return small * (255.0 / np.iinfo(image.dtype).max)


def _levels(image: Array) -> Array:
    return image * (255.0 / np.iinfo(image.dtype).max)


def _ycc(rgb: Array) -> tuple[Plane, Plane, Plane]:
    luma = rgb @ _LUMA
    return luma, (rgb[..., 2] - luma) * _BLUE, (rgb[..., 0] - luma) * _RED


def _gradient(plane: Plane) -> Plane:
    """Return the magnitude of central differences; 0 along a side of one pixel."""
    steps = [np.gradient(plane, axis=axis) for axis in (0, 1) if plane.shape[axis] > 1]
    return np.asarray(np.sqrt(sum((step**2 for step in steps), np.zeros(plane.shape))))


def _mean_square(difference: Plane) -> float:
    return float(np.mean(difference**2))
