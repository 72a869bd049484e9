"""Read 16 bits a channel: Pillow opens such colours as 8, but its decoders can give either byte."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from ...tensors import Array

Reopen = Callable[[], Image.Image]
"""Opens the file again, at the same frame, not loaded."""

_CHANNELS = {"RGB": 3, "RGBX": 3, "RGBA": 4, "RGBa": 4, "LA": 2}


def rawmode(image: Image.Image) -> str:
    """Return how the first tile of an image that is not loaded stores its pixels, such as RGB;16B."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments if isinstance(arguments, str) else (arguments or ("",))[0])


def read_sixteen(image: Image.Image, reopen: Reopen) -> Array | None:
    """Return uint16 (height, width, channels) of a PNG, TIFF or PNM of 16-bit colours; None for others.

    ``image`` is not loaded yet, and not changed. Premultiplied colours are divided by their alpha.
    """
    if image.format == "PPM":
        return _read_pnm(image, reopen)
    name, _, order = rawmode(image).partition(";16")
    if name not in _CHANNELS or order not in ("B", "L", "N"):
        return None
    if name == "LA":  # a pixel has four bytes, as in RGBA
        quads = np.asarray(_decoded(reopen(), "RGBA")).astype(np.uint16)
        return quads[..., 0::2] << 8 | quads[..., 1::2]
    plain = "RGBA" if name == "RGBa" else name
    first = np.asarray(_decoded(reopen(), plain + ";16B"))  # takes the byte at offset 0
    second = np.asarray(_decoded(reopen(), plain + ";16L"))  # takes the byte at offset 1
    big = order == "B" or (order == "N" and sys.byteorder == "big")
    high, low = (first, second) if big else (second, first)
    pixels: Array = high.astype(np.uint16) << 8 | low
    return _divided(pixels) if name == "RGBa" else pixels


def _read_pnm(image: Any, reopen: Reopen) -> Array | None:
    """Read binary samples of two bytes, which Pillow reduces to one in colour."""
    decoder, _, offset, arguments = image.tile[0][:4]
    largest = 65535 if arguments == "I;16B" else arguments[1] if decoder == "ppm" else 0
    if largest < 256:
        return None
    width, height = image.size
    channels = 3 if image.mode == "RGB" else 1
    again: Any = reopen()
    again.fp.seek(offset)
    data = again.fp.read(2 * width * height * channels)
    if len(data) < 2 * width * height * channels:
        raise OSError("image file is truncated")
    levels = np.minimum(np.frombuffer(data, ">u2"), largest).reshape(height, width, channels)
    pixels: Array = np.rint(levels * (65535 / largest)).astype(np.uint16)
    return pixels


def _decoded(image: Any, mode: str) -> Any:
    """Load an image with the same raw mode for all of its tiles."""
    tiles: list[Any] = []
    for tile in image.tile:
        arguments = tile[3]
        new = mode if isinstance(arguments, str) else (mode, *(arguments or ())[1:])
        tiles.append(tile._replace(args=new) if hasattr(tile, "_replace") else (*tile[:3], new))
    image.tile = tiles
    image.load()
    return image


def _divided(pixels: Array) -> Array:
    alpha = np.maximum(pixels[..., 3:], 1).astype(np.float64)
    colours = np.minimum(np.rint(pixels[..., :3] * (65535 / alpha)), 65535).astype(np.uint16)
    return np.concatenate([colours, pixels[..., 3:]], axis=-1)
