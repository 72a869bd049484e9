"""Images of Python programs, as arrays of one form: PIL images, arrays of any layout, lists."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..tensors import Array
from .inks import cmyk_to_srgb
from .profiles import ProfileError, open_profile

_DEPTHS = {8: np.uint8, 16: np.uint16}
_SHAPES = "(height, width, 3), grey (height, width) or (height, width, 1)"
_DTYPES = "uint8, uint16, or floats in [0, 1]"
_DECODED = {
    **dict.fromkeys(("1", "L"), "L"),
    **dict.fromkeys(("P", "RGB", "RGBX", "YCbCr", "HSV"), "RGB"),
    **dict.fromkeys(("LA", "PA", "RGBA"), "RGBA"),
    **{mode: mode for mode in ("CMYK", "I;16", "I;16L", "I;16B", "F")},
}
"""PIL's modes that are taken, and the mode in which their pixels are."""

_GREY = ("1", "L", "LA")
"""PIL's modes of grey, with alpha or a transparent level."""


def to_pixels(image: Any) -> Array:
    """Return an image as a contiguous array (h, w, 3): uint8, uint16 or float32 in [0, 1].

    ``image`` is a PIL image, an array or nested lists. Colours of arrays and lists are sRGB. Grey
    becomes three equal channels. An alpha channel is dropped where it is opaque everywhere. PIL images
    are turned upright by their EXIF orientation and converted to sRGB by their profile. Integers of
    lists are 8-bit values. Raise ValueError of one line for anything else, with what to do.
    """
    array = _from_pil(image) if isinstance(image, Image.Image) else _array(image)
    if array.ndim == 2:
        array = array[:, :, None]
    _check_shape(array)
    array = _known_dtype(array, isinstance(image, list | tuple))
    if array.shape[2] == 4:
        _check_opaque(array)
        array = array[:, :, :3]
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def result_dtype(lr: Array, depth: int | None) -> np.dtype[Any]:
    """Return the dtype of the result for an image of ``to_pixels``: its own, or that of ``depth``.

    Raise ValueError if ``depth`` is not 8, 16 or None.
    """
    if depth is None:
        return lr.dtype
    if depth not in _DEPTHS:
        raise ValueError(f"depth must be 8, 16 or None, got {depth!r}")
    return np.dtype(_DEPTHS[depth])


def to_unit(pixels: Array) -> Array:
    """Return integers divided by the largest of their dtype, and floats as they are: float32."""
    values = pixels.astype(np.float32)
    return values if pixels.dtype.kind == "f" else values / np.float32(np.iinfo(pixels.dtype).max)


def quantize(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values in [0, 1] as integers, rounded to nearest once, or as float32."""
    if dtype.kind != "f":
        values = np.rint(values * np.float32(np.iinfo(dtype).max))
    return values.astype(dtype)


def _from_pil(image: Image.Image) -> Array:
    """Return the pixels of a PIL image, upright, opaque and in sRGB as dossr-run reads them."""
    decoded = _decoded(image)
    pixels = np.asarray(decoded)
    if decoded.mode == "RGBA":
        _check_opaque(pixels)
        pixels = pixels[:, :, : 1 if image.mode in _GREY else 3]
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    try:
        profile = open_profile(image.info["icc_profile"], pixels.shape[2])
    except (KeyError, ProfileError):  # none, or one that does not fit
        profile = None
    if decoded.mode == "CMYK":
        return cmyk_to_srgb(pixels, profile)[0]
    if profile is None or profile.is_srgb or pixels.dtype.kind == "f":
        return pixels
    return profile.to_srgb(_known_dtype(pixels, False))


def _decoded(image: Image.Image) -> Image.Image:
    """Return a PIL image upright, in one of the modes of _DECODED."""
    try:
        upright = ImageOps.exif_transpose(image)
        mode = _DECODED.get(upright.mode)
        if mode in ("L", "RGB") and upright.has_transparency_data:
            mode = "RGBA"
        if mode is not None:
            return upright if upright.mode == mode else upright.convert(mode)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow decodes only now
        raise ValueError(f"lr cannot be decoded: {error}") from error
    raise ValueError(
        f"lr must be a PIL image of RGB, grey, palette or CMYK colours, got mode {image.mode}; "
        "convert it first, for example with lr.convert('RGB')"
    )


def _array(image: Any) -> Array:
    try:
        return np.asarray(image)
    except Exception as error:  # of any library's array: on a GPU, with a gradient, ragged lists
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"lr must be a PIL image, an array or nested lists, got {type(image).__name__}: {reason}"
        ) from error


def _check_shape(array: Array) -> None:
    if array.ndim == 3 and array.size and array.shape[2] in (1, 3, 4):
        return
    advice = ""
    if array.dtype.kind in "OSU":
        advice = "; open a file with PIL.Image.open"
    elif array.ndim == 3 and array.size and array.shape[0] in (1, 3, 4):
        advice = "; move the channels last: lr.transpose(1, 2, 0)"
    elif array.ndim == 4:
        advice = "; give one image at a time, or use upscale_many"
    raise ValueError(f"lr must be {_SHAPES}, got {array.dtype} {array.shape}{advice}")


def _known_dtype(array: Array, is_list: bool) -> Array:
    """Return the array in native uint8, uint16 or float32; raise ValueError for other values."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "u" and size <= 2:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if kind == "f":
        low, high = array.min(), array.max()
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"lr must be {_DTYPES}, got {array.dtype} from {low:.4g} to {high:.4g}; "
                "scale it, or cut it off with np.clip(lr, 0, 1)"
            )
        return array.astype(np.float32)
    if is_list and kind in "iu" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    raise ValueError(
        f"lr must be {_DTYPES}, got {array.dtype}; convert it, for example with lr.astype(np.uint8)"
    )


def _check_opaque(array: Array) -> None:
    full = 1.0 if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    if (array[:, :, 3] != full).any():
        raise ValueError(
            "lr must be opaque, got an alpha channel that is not; give lr[..., :3] (of a PIL image: "
            "lr.convert('RGB')), or use dossr-run, which enlarges alpha too"
        )
