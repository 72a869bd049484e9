"""Image files: any of Pillow's formats and modes in, the same kind of image out."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from ..files import is_unfinished, write_whole
from ..tensors import MAX_PIXELS, SCALE
from ..tensors import Image as Pixels
from ..terminal import captured_stderr

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it would write to stderr otherwise

_NO_LIMIT = 1 << 31


@dataclass(frozen=True)
class _Format:
    """A format that can be written."""

    name: str
    """Pillow's."""

    holds_alpha: bool
    longest: int = _NO_LIMIT
    """Largest side, in pixels."""


# By suffix. Other formats that Pillow writes change the size, need another program or hold no colour.
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
_COPIED = ("icc_profile", "dpi")  # as Pillow found them
_KEPT = (*_COPIED, "exif")
_OF_METADATA = ("TIFFFetchNormalTag", "TIFFReadDirectory", "_TIFFVSetField")
"""Complaints of libtiff that are about a tag that describes, not about the pixels."""

_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0xA002, 0xA003  # EXIF tags
_EXIF_IFD = 0x8769
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation; Pillow turns TIFF files itself, and takes the orientation out


@dataclass(frozen=True)
class SourceImage:
    """An image as the pipeline takes it, and what must come back with it."""

    pixels: Pixels
    """uint8 (height, width, 3), turned as its EXIF orientation says."""

    alpha: Image.Image | None = None
    is_grey: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    """Colour profile, resolution and EXIF data (without the orientation), as Pillow saves them; not
    checked, see ``check_writable``."""


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> SourceImage:
    """Read a file of at most ``max_pixels``, 16-bit ones at 8 bits. Raises ImageError in one line."""
    try:
        with captured_stderr() as stderr, _unlimited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            image = _read(path, max_pixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path} needs more memory to be read than there is") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} must be an image, and no known format fits it") from error
    except OSError as error:
        reason = error.strerror or f"it may be cut off: {_line(error)}"
        raise ImageError(f"{path} cannot be read: {reason}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise ImageError(f"{path} cannot be read: it may be cut off: {_line(error)}") from error
    complaints = [c for c in stderr.text.splitlines() if not c.startswith(_OF_METADATA)]
    if complaints:
        raise ImageError(f"{path} is damaged: {_line(complaints[0])}")
    return image


def write_image(
    path: Path, pixels: Pixels, source: SourceImage, scale: float, *, replace: bool = True
) -> tuple[int, int]:
    """Write the upscaled ``pixels`` of a source and return the width and height written.

    The image is reduced to ``scale`` times the source where that is not 4. The folder is made if
    need be; the file appears whole or not at all. Without ``replace`` a file that exists by then
    stays. Raises ImageError in one line.
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
    except Exception as error:  # as above, of Pillow's encoders
        raise ImageError(f"{path} cannot be written: {_line(error)}") from error
    return image.size


def check_writable(path: Path, source: SourceImage, scale: float = SCALE) -> dict[str, Any]:
    """The metadata of a source that the format of ``path`` takes; looked at before the networks run.

    Raises ImageError where the format cannot hold the transparency or the size of the result.
    """
    kind = _WRITABLE[path.suffix.lower()]
    if source.alpha is not None and not kind.holds_alpha:
        raise ImageError(f"{path} cannot hold the transparency of its source; write a .png")
    longest = max(_size(source, scale))
    if longest > kind.longest:
        raise ImageError(
            f"{path} must have sides of at most {kind.longest} pixels, got {longest}; write a .png"
        )
    mode = ("L" if source.is_grey else "RGB") + ("A" if source.alpha is not None else "")
    sample = Image.new(mode, (16, 16))
    info: dict[str, Any] = {}
    for key in _KEPT:
        if key in source.info and _is_taken(sample, kind.name, {key: source.info[key]}):
            info[key] = source.info[key]
    return info


def is_image_name(path: Path) -> bool:
    """Whether a file found in a folder is taken for an image, by its suffix."""
    return path.suffix.lower() in _READABLE and not is_unfinished(path)


def is_writable_name(path: Path) -> bool:
    """Whether a file's suffix is one that can be written."""
    return path.suffix.lower() in _WRITABLE


def _size(source: SourceImage, scale: float) -> tuple[int, int]:
    height, width = source.pixels.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def _is_taken(image: Image.Image, kind: str, info: dict[str, Any]) -> bool:
    try:
        _encode(image, kind, info)
    except Exception:  # whatever it is, the format does not take this
        return False
    return True


def _encode(image: Image.Image, kind: str, info: dict[str, Any]) -> memoryview:
    """The file's bytes. In memory, since Pillow's writers take a full disk for success, or for ever."""
    file = io.BytesIO()
    image.save(file, format=kind, **_BEST.get(kind, {}), **info)
    return file.getbuffer()


def _line(error: object) -> str:
    """What a library says, as one line that is not a page."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _unlimited() -> Iterator[None]:
    """Without Pillow's own limit of pixels, since ``max_pixels`` is checked before they are read."""
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
                f"{opened.height}; pass a larger --max-pixels, or make the image smaller"
            )
        opened.load()
        info: dict[str, Any] = {key: opened.info[key] for key in _COPIED if key in opened.info}
        image = _upright(opened, path)
        exif = _exif(opened)
    if exif:
        info["exif"] = exif
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        info.pop("icc_profile", None)  # it describes inks, and what is written is RGB
    rgb = image.convert("RGBA").convert("RGB") if alpha else image.convert("RGB")
    grey = image.mode in ("1", "L", "LA", "La")
    return SourceImage(np.asarray(rgb), alpha, grey, info)


def _upright(opened: Image.Image, path: Path) -> Image.Image:
    """The image at 8 bits a channel, turned as its EXIF orientation says, if that is sound."""
    image = _eight_bits(opened, path)
    try:
        turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse an image
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def _exif(image: Image.Image) -> bytes | None:
    """EXIF data without what the new image makes wrong; None where there is none, or damaged.

    Changes the image's own: read its orientation before.
    """
    try:
        exif = image.getexif()
        if image.format == "TIFF":  # its tags are the file's structure; keep those that describe
            described = {
                tag: exif[tag]
                for tag in (0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298)
                if tag in exif
            }
            exif = Image.Exif()
            exif.update(described)
        exif.pop(_ORIENTATION, None)
        for tag in (_WIDTH, _HEIGHT):
            exif.get_ifd(_EXIF_IFD).pop(tag, None)
        return exif.tobytes() if len(exif) else None
    except Exception:  # as above
        return None


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Grey images of 16 bits (which Pillow may open as 32) at 8 bits, with their transparency."""
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
