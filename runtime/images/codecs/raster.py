"""Turn an opened image into channels of 8 or 16 bits, with its transparency."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...errors import ImageError
from ...tensors import Array
from ..kinds import SCALE_FIRST
from ..profiles import lab_to_srgb
from .sixteen import Reopen, rawmode, read_sixteen

_TOP = 65535
_BITS, _PHOTOMETRIC, _LARGEST, _LARGEST_OF_EACH = 258, 262, 281, 341  # TIFF tags
_DEEP_NOTE = "its 16-bit {} are read as 8 bits"


@dataclass(frozen=True)
class Raster:
    """The pixels of one image as they are stored."""

    channels: Array
    """uint8 or uint16 (height, width, 1, 3 or 4): grey, RGB or CMYK."""

    alpha: Array | None = None
    """(height, width) in the same dtype, also where it is opaque everywhere."""

    is_srgb: bool = False
    """Whether its profile does not apply any more."""

    notes: tuple[str, ...] = ()


def decode(image: Image.Image, reopen: Reopen) -> Raster:
    """Decode an image that is not loaded. Raise ImageError for floats and 32 bits; else as Pillow."""
    stored = rawmode(image)
    deep = read_sixteen(image, reopen)
    image.load()
    if deep is not None:
        return of_sixteen(deep, getattr(image, "tag_v2", None), image.info.get("transparency"))
    notes = (_DEEP_NOTE.format("colours"),) if ";16" in stored and image.mode == "CMYK" else ()
    if image.mode == "F":
        raise ImageError(f"must have 8 or 16 bits a channel, got 32-bit floats; {SCALE_FIRST}")
    if image.mode.startswith("I"):
        return _of_integers(image)
    if image.mode in ("1", "L"):
        return _of_grey(image, stored)
    if image.mode == "LAB":
        return Raster(np.asarray(lab_to_srgb(image)), is_srgb=True)
    if image.mode == "CMYK":
        return Raster(_cmyk(image), notes=notes)
    return _of_colours(image)


def _of_colours(image: Image.Image) -> Raster:
    if image.mode in ("LA", "La"):
        pair = np.asarray(image.convert("LA"))
        return Raster(pair[..., :1], pair[..., 1])
    key = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple):
        pixels = np.asarray(image)
        return Raster(pixels, _keyed(pixels, key, 255))
    if image.mode not in ("RGBX", "YCbCr", "HSV") and image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return Raster(rgba[..., :3], rgba[..., 3])
    return Raster(np.asarray(image.convert("RGB")))


def _of_grey(image: Image.Image, stored: str) -> Raster:
    pixels = np.asarray(image.convert("L"))[..., None]
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Raster(pixels)
    if stored in ("L;2", "L;4"):  # the key is a level of 2 or 4 bits
        key *= 255 // ((1 << int(stored[2:])) - 1)
    return Raster(pixels, _keyed(pixels, (key,), 255))


def _of_integers(image: Image.Image) -> Raster:
    """Return grey levels of more than 8 bits, scaled to 16 where a TIFF says what the largest is."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _TOP:
        raise ImageError(f"must have 8 or 16 bits a channel, got 32; {SCALE_FIRST}")
    key = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    largest = white_level(tags)
    if largest >= values.max():
        values = np.rint(values * (_TOP / largest))
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero
        values = _TOP - values
    pixels = values.astype(np.uint16)[..., None]
    return Raster(
        pixels, _keyed(pixels, (key,), _TOP) if isinstance(key, int) else None, notes=_dark(pixels)
    )


def of_sixteen(pixels: Array, tags: object = None, key: object = None) -> Raster:
    """Return uint16 (height, width, 1 to 4), alpha last of 2 or 4, scaled if a TIFF's tags name white.

    ``tags``: a mapping of a TIFF's tags. ``key``: the levels of a transparent colour, as a tuple.
    """
    largest, scaled = white_level(tags), pixels
    if _TOP > largest >= pixels.max():
        scaled = np.rint(pixels * (_TOP / largest)).astype(np.uint16)
    if pixels.shape[2] in (2, 4):
        return Raster(scaled[..., :-1], scaled[..., -1], notes=_dark(scaled[..., :-1]))
    alpha = _keyed(pixels, key, _TOP) if isinstance(key, tuple) else None
    return Raster(scaled, alpha, notes=_dark(scaled))


def white_level(tags: object) -> int:
    """Return the level of white by the tags of a TIFF file, 65535 without them."""
    for tag in (_LARGEST_OF_EACH, _LARGEST, _BITS):
        value = tags.get(tag) if hasattr(tags, "get") else None
        if isinstance(value, tuple) and value and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, int | float):
            value = (1 << int(value)) - 1 if tag == _BITS and 8 < value < 16 else int(value)
            if 255 < value < _TOP:
                return value
    return _TOP


def _dark(pixels: Array) -> tuple[str, ...]:
    """Tell of values that look like 10, 12 or 14 bits, which are used as they are."""
    largest = int(pixels.max())
    for bits in (10, 12, 14):
        if 255 < largest < 1 << bits:
            return (
                f"its largest value is {largest} of 65535, as of {bits} bits in 16: the result is as dark; "
                "scale it first if that is not meant",
            )
    return ()


def _keyed(pixels: Array, key: tuple[int, ...], opaque: int) -> Array:
    """Return alpha that is 0 where a pixel has the transparent colour."""
    same = (pixels == np.array(key[: pixels.shape[2]])).all(axis=-1)
    return np.where(same, 0, opaque).astype(pixels.dtype)


def _cmyk(image: Image.Image) -> Array:
    """Return ink, 255 full. Pillow takes every JPEG for Adobe's, which are inverted."""
    pixels: Array = np.asarray(image)
    if image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        return 255 - pixels
    return pixels
