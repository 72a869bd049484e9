"""Image files: read any format and mode of Pillow, write the same kind of image."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from ..files import is_unfinished, write_whole
from ..tensors import MAX_PIXELS, SCALE
from ..tensors import Image as Pixels
from ..terminal import captured_stderr

logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise it logs to stderr

_NO_LIMIT = 1 << 31


@dataclass(frozen=True)
class _Format:
    """A supported output format."""

    name: str
    """In Pillow."""

    holds_alpha: bool
    longest: int = _NO_LIMIT
    """Largest side, in pixels."""


# By suffix. The other formats of Pillow change the size, need another program or lack colour.
_WRITABLE = {
    ".png": _Format("PNG", True),
    ".jpg": _Format("JPEG", False, 65500),
    ".jpeg": _Format("JPEG", False, 65500),
    ".webp": _Format("WEBP", True, 16383),
    ".tif": _Format("TIFF", True),
    ".tiff": _Format("TIFF", True),
    ".bmp": _Format("BMP", False),
    ".ppm": _Format("PPM", False),
    ".tga": _Format("TGA", True, 65535),
    ".jp2": _Format("JPEG2000", True),
    ".avif": _Format("AVIF", True, 65535),
}
_READABLE = frozenset(_WRITABLE) | {
    ".gif",
    ".pgm",
    ".pbm",
    ".pnm",
    ".dib",
    ".jfif",
    ".j2k",
    ".apng",
}
_BEST = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90},
}
_COPIED = ("icc_profile", "dpi")  # copied unchanged
_KEPT = (*_COPIED, "exif")
_HARMLESS = ("TIFFFetchNormalTag", "TIFFReadDirectory", "_TIFFVSetField")
"""Starts of libtiff's warnings about descriptive tags, which do not concern the pixels."""

_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0xA002, 0xA003  # EXIF tags
_EXIF_IFD = 0x8769
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298)  # TIFF tags without structure


@dataclass(frozen=True)
class SourceImage:
    """An image for the pipeline, and everything else that its result must keep."""

    pixels: Pixels
    """uint8 (height, width, 3), rotated by its EXIF orientation."""

    alpha: Image.Image | None = None
    is_grey: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    """Colour profile, resolution and EXIF data without the orientation, as Pillow saves them. Not
    validated, see ``check_writable``."""


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> SourceImage:
    """Read a file of at most ``max_pixels``, reducing 16 bits to 8. Raise ImageError if it fails."""
    try:
        with captured_stderr() as stderr, _unlimited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            image = _read(path, max_pixels)
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


def write_image(
    path: Path, pixels: Pixels, source: SourceImage, scale: float, *, replace: bool = True
) -> tuple[int, int]:
    """Write the upscaled ``pixels`` of a source; return the width and height written.

    Reduce the image to ``scale`` times the source if that is below 4. Create the folder if it is
    missing. The file is complete or absent. Without ``replace``, keep a file that already exists.
    Raise ImageError if writing fails.
    """
    info = check_writable(path, source, scale)
    image = Image.fromarray(pixels)
    size = _size(source, scale)
    if scale != SCALE:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if source.is_grey:
        image = image.convert("L")
    if source.alpha is not None:
        image.putalpha(source.alpha.resize(size, Image.Resampling.BICUBIC))
    try:
        data = _encode(image, _WRITABLE[path.suffix.lower()].name, info)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, replace=replace)
    except MemoryError:
        raise
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or _line(error)}") from error
    except Exception as error:  # Pillow's encoders raise nearly anything
        raise ImageError(f"{path} cannot be written: {_line(error)}") from error
    return image.size


def check_writable(path: Path, source: SourceImage, scale: float = SCALE) -> dict[str, Any]:
    """Return the metadata of a source that the format of ``path`` supports.

    Call it before the networks run. Raise ImageError if the format does not support the
    transparency or the size of the result.
    """
    kind = _WRITABLE[path.suffix.lower()]
    if source.alpha is not None and not kind.holds_alpha:
        raise ImageError(f"{path} does not support the transparency of its source; write a .png")
    longest = max(_size(source, scale))
    if longest > kind.longest:
        raise ImageError(
            f"{path} must have sides of at most {kind.longest} pixels, got {longest}; write a .png"
        )
    mode = ("L" if source.is_grey else "RGB") + ("A" if source.alpha is not None else "")
    sample = Image.new(mode, (16, 16))
    info: dict[str, Any] = {}
    for key in _KEPT:
        if key in source.info and _is_supported(sample, kind.name, {key: source.info[key]}):
            info[key] = source.info[key]
    return info


def is_image_name(path: Path) -> bool:
    """Return whether a file found in a folder counts as an image, by its suffix."""
    return path.suffix.lower() in _READABLE and not is_unfinished(path)


def is_writable_name(path: Path) -> bool:
    """Return whether a file's suffix is a supported output format."""
    return path.suffix.lower() in _WRITABLE


def _size(source: SourceImage, scale: float) -> tuple[int, int]:
    height, width = source.pixels.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def _is_supported(image: Image.Image, kind: str, info: dict[str, Any]) -> bool:
    try:
        _encode(image, kind, info)
    except Exception:  # any exception means that the format does not support it
        return False
    return True


def _encode(image: Image.Image, kind: str, info: dict[str, Any]) -> memoryview:
    """Return the file's bytes. In memory, because Pillow may ignore a full disk or hang on it."""
    file = io.BytesIO()
    image.save(file, format=kind, **_BEST.get(kind, {}), **info)
    return file.getbuffer()


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


def _read(path: Path, max_pixels: int) -> SourceImage:
    with Image.open(path) as opened:
        if opened.width * opened.height > max_pixels:
            raise ImageError(
                f"{path} must have at most {max_pixels} pixels, got {opened.width} x "
                f"{opened.height}; pass a larger --max-pixels, or reduce the image"
            )
        opened.load()
        info: dict[str, Any] = {key: opened.info[key] for key in _COPIED if key in opened.info}
        image = _eight_bits(_upright(opened), path)
        exif = _exif(opened)
    if exif:
        info["exif"] = exif
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        info.pop("icc_profile", None)  # it does not apply to RGB
    rgb = image.convert("RGBA").convert("RGB") if alpha else image.convert("RGB")
    grey = image.mode in ("1", "L", "LA", "La")
    return SourceImage(np.asarray(rgb), alpha, grey, info)


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
