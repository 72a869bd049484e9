"""Read image files: every format and mode of Pillow, as sRGB frames."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from ..tensors import MAX_PIXELS
from ..terminal import captured_stderr
from .source import Frame, Metadata, SourceImage

logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise it logs to stderr

_HARMLESS = ("TIFFFetchNormalTag", "TIFFReadDirectory", "_TIFFVSetField")
"""Starts of libtiff's warnings about descriptive tags, which do not concern the pixels."""

_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0xA002, 0xA003  # EXIF tags
_EXIF_IFD = 0x8769
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298)  # TIFF tags without structure


def read_image(
    source: Path | BinaryIO, max_pixels: int = MAX_PIXELS, *, first_frame: bool = False
) -> SourceImage:
    """Read a file of at most ``max_pixels``, all frames together. Raise ImageError if it fails."""
    path = source if isinstance(source, Path) else Path("standard input")
    try:
        with captured_stderr() as stderr, _unlimited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            image = _read(source, path, max_pixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path} needs more memory than is available") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} must be an image, and its format is unknown") from error
    except OSError as error:
        reason = error.strerror or f"it may be truncated: {_line(error)}"
        raise ImageError(f"{path} cannot be read: {reason}") from error
    except Exception as error:  # for a damaged file, Pillow's decoders raise nearly anything
        raise ImageError(f"{path} cannot be read: it may be truncated: {_line(error)}") from error
    warned = [line for line in stderr.text.splitlines() if not line.startswith(_HARMLESS)]
    if warned:
        raise ImageError(f"{path} is damaged: {_line(warned[0])}")
    return image


def _line(error: object) -> str:
    """Return a library's message as one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _unlimited() -> Iterator[None]:
    """Lift Pillow's own limit of pixels, because ``max_pixels`` is checked before decoding."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _read(source: Path | BinaryIO, path: Path, max_pixels: int) -> SourceImage:
    with Image.open(source) as opened:
        if opened.width * opened.height > max_pixels:
            raise ImageError(
                f"{path} must have at most {max_pixels} pixels, got {opened.width} x "
                f"{opened.height}; pass a larger --max-pixels, or reduce the image"
            )
        opened.load()
        profile = opened.info.get("icc_profile")
        dpi = opened.info.get("dpi")
        image = _eight_bits(_upright(opened), path)
        exif = _exif(opened)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        profile = None  # it does not apply to RGB
    rgb = image.convert("RGBA").convert("RGB") if alpha else image.convert("RGB")
    frame = Frame(np.asarray(rgb), np.asarray(alpha) if alpha else None)
    return SourceImage(
        (frame,),
        is_grey=image.mode in ("1", "L", "LA", "La"),
        has_alpha=alpha is not None,
        profile=profile,
        metadata=Metadata(exif, dpi=dpi),
    )


def _upright(image: Image.Image) -> Image.Image:
    """Return a copy rotated by its EXIF orientation if that is valid."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata is no reason to reject an image
        return image.copy()


def _exif(image: Image.Image) -> bytes | None:
    """Return EXIF data without orientation and size; None if it is absent or damaged.

    Modifies the image's own EXIF data: call ``_upright`` first.
    """
    try:
        exif = image.getexif()
        if image.format == "TIFF":  # most of its tags are the file's structure
            described = {tag: exif[tag] for tag in _DESCRIPTIVE if tag in exif}
            exif = Image.Exif()
            exif.update(described)
        exif.pop(_ORIENTATION, None)
        for tag in (_WIDTH, _HEIGHT):
            exif.get_ifd(_EXIF_IFD).pop(tag, None)
        return exif.tobytes() if len(exif) else None
    except Exception:  # damaged metadata
        return None


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Reduce 16-bit grey images, which Pillow may open as 32 bits, to 8 bits; keep transparency."""
    if image.mode == "F":
        raise ImageError(f"{path} must have 8 or 16 bits a channel, got 32-bit floats")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{path} must have 8 or 16 bits a channel, got 32")
    grey = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey
