"""Transparency: colours for the networks under it, enlargement, and backgrounds."""

import numpy as np
from PIL import Image, ImageColor

from ..tensors import SCALE, Array
from .source import Pixels

_GAIN = 2.0  # of the steepness of edges, at four times the size
_GRADIENT, _EDGE = 0.1, 0.4  # local contrasts up to which nothing, and from which all is sharpened
_ROWS = 256  # of the result, computed at a time


def spread(pixels: Array, alpha: Array) -> Array:
    """Continue the visible colours under pixels that are transparent, replacing what is hidden there.

    Otherwise a network, and every later reduction, mixes the hidden colours into the edge. The colours
    are those of ever coarser averages of what is visible ("push-pull", Gortler et al. 1996).
    ``pixels``: (height, width, channels) of whole numbers, which may be negative. ``alpha``: (height, width).
    An image without visible pixels is returned unchanged.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return pixels
    weight = (alpha / np.float32(np.iinfo(alpha.dtype).max)).astype(np.float32)[..., None]
    filled = _pull(pixels.astype(np.float32) * weight, weight)
    result = pixels.copy()
    result[hidden] = np.rint(filled[hidden]).astype(pixels.dtype)
    return result


def parse_color(text: str) -> tuple[int, int, int]:
    """Return red, green and blue of a colour, a name or #rrggbb. Raise ValueError if it is none."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError as error:
        raise ValueError(f"must be a colour such as white or #ff8800, got '{text}'") from error
    return red, green, blue


def _pull(colour: Array, weight: Array) -> Array:
    """Return averages of colours (height, width, 3), filled from coarser ones where weights are small."""
    height, width = weight.shape[:2]
    own = colour / np.maximum(weight, 1e-6)
    if height == width == 1:
        return own
    coarse = _pull(_sums(colour), _sums(weight))
    channels = [
        np.asarray(
            Image.fromarray(coarse[..., i]).resize((width, height), Image.Resampling.BILINEAR)
        )
        for i in range(coarse.shape[2])
    ]
    share = np.minimum(weight, 1)
    filled: Array = share * own + (1 - share) * np.stack(channels, axis=-1)
    return filled


def _sums(values: Array) -> Array:
    """Return the sums of squares of 2 x 2 pixels; at an odd end those of what is left."""
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    total: Array = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return total


def enlarge(alpha: Array, size: tuple[int, int]) -> Array:
    """Return alpha at width and height ``size``, with edges as hard as they were.

    Lanczos alone leaves edges four times as wide. Here values are moved away from the middle of the
    darkest and brightest pixel around them, at most to these: nothing rings, a line of one pixel keeps
    its strength, and slow gradients stay as they are. Measured on shapes drawn at four times the size and
    averaged, in PSNR: disc 31.9 dB (Lanczos 26.9, bicubic 26.5), text 21.0 (19.6, 19.3), lines of one
    pixel 17.9 (16.4, 16.0). The luminance of the result is no guide, because colours are continued
    across the edges of alpha.
    """
    width, height = size
    source = alpha.astype(np.float32)
    images = [
        Image.fromarray(plane)
        for plane in (source, _extreme(source, np.minimum), _extreme(source, np.maximum))
    ]
    gain = 1 + (_GAIN - 1) * min(max((width / alpha.shape[1] - 1) / (SCALE - 1), 0.0), 1.0)
    top, step = np.iinfo(alpha.dtype).max, alpha.shape[0] / height
    result = np.empty((height, width), alpha.dtype)
    for start in range(0, height, _ROWS):
        end = min(start + _ROWS, height)
        box = (0.0, start * step, float(alpha.shape[1]), min(end * step, alpha.shape[0]))
        values, low, high = (
            np.asarray(image.resize((width, end - start), method, box))
            for image, method in zip(images, _METHODS, strict=True)
        )
        result[start:end] = np.rint(_steepened(values, low, high, gain, top)).clip(0, top)
    return result


_METHODS = (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BILINEAR)


def _steepened(values: Array, low: Array, high: Array, gain: float, top: int) -> Array:
    span = high - low
    share = ((span / top - _GRADIENT) / (_EDGE - _GRADIENT)).clip(0, 1)
    middle = (high + low) / 2
    steep: Array = middle + (values - middle) * (1 + (gain - 1) * share)
    return steep.clip(low, high)


def _extreme(values: Array, smaller: np.ufunc) -> Array:
    """Return the smallest or largest value among each pixel and its eight neighbours."""
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        count = values.shape[axis]
        parts = [padded.take(range(i, i + count), axis) for i in range(3)]
        values = smaller(smaller(parts[0], parts[1]), parts[2])
    return values


def flatten(pixels: Pixels, alpha: Array, background: tuple[int, int, int]) -> Pixels:
    """Return pixels over an sRGB colour of 8 bits, as a browser shows them."""
    top = np.iinfo(pixels.dtype).max
    colour = np.array(background, np.float32) * (top / 255)
    result = np.empty_like(pixels)
    for start in range(0, pixels.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        share = (alpha[rows] / np.float32(np.iinfo(alpha.dtype).max))[..., None]
        result[rows] = np.rint(pixels[rows] * share + colour * (1 - share))
    return result
