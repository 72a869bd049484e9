"""Picture files: any of Pillow's formats and modes in, the same kind of picture out."""

import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .pipeline import SCALE
from .pipeline import Image as Pixels

# What can be written: format and whether it holds transparency, by suffix. Others that Pillow knows
# change the size, need another program or hold no colour.
_WRITABLE = {
    ".png": ("PNG", True),
    ".jpg": ("JPEG", False),
    ".jpeg": ("JPEG", False),
    ".webp": ("WEBP", True),
    ".tif": ("TIFF", True),
    ".tiff": ("TIFF", True),
    ".bmp": ("BMP", False),
    ".ppm": ("PPM", False),
    ".tga": ("TGA", True),
    ".jp2": ("JPEG2000", True),
    ".avif": ("AVIF", True),
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
_KEPT = ("icc_profile", "dpi")
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


class PictureError(ValueError):
    """A file is no picture that can be read, or a picture cannot be written."""


@dataclass(frozen=True)
class Picture:
    """A picture as the pipeline takes it, and what must come back with it."""

    pixels: Pixels
    """uint8 (height, width, 3), turned as its EXIF orientation says."""

    alpha: Image.Image | None = None
    is_grey: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    """Colour profile, resolution and EXIF data (without the orientation), as Pillow saves them."""


def read_picture(path: Path) -> Picture:
    """Read a file, 16-bit ones at 8 bits. Raises PictureError in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of large pictures
            return _read(path)
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} must be a picture, and no known format fits it") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path} is too large a picture: {error}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything for a damaged file
        raise PictureError(f"{path} cannot be read, it may be cut off: {error}") from error


def write_picture(path: Path, pixels: Pixels, source: Picture, scale: float) -> tuple[int, int]:
    """Write the upscaled ``pixels`` of a source and return the width and height written.

    The picture is reduced to ``scale`` times the source where that is not 4. The folder is made if
    need be; the file appears whole or not at all. Raises PictureError in one line.
    """
    check_writable(path, source)
    image = Image.fromarray(pixels)
    height, width = source.pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale != SCALE:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if source.is_grey:
        image = image.convert("L")
    if source.alpha is not None:
        image.putalpha(source.alpha.resize(size, Image.Resampling.BICUBIC))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(image, path, source.info)
    except MemoryError:
        raise
    except Exception as error:  # as above, of Pillow's encoders
        raise PictureError(f"{path} cannot be written: {error}") from error
    return image.size


def check_writable(path: Path, source: Picture) -> None:
    """Raise PictureError where the format cannot hold the transparency of its source."""
    if source.alpha is not None and not _WRITABLE[path.suffix.lower()][1]:
        raise PictureError(f"{path} cannot hold the transparency of its source; write a .png")


def is_picture_name(path: Path) -> bool:
    """Whether a file found in a folder is taken for a picture, by its suffix."""
    return path.suffix.lower() in _READABLE


def is_writable_name(path: Path) -> bool:
    """Whether a file's suffix is one that can be written."""
    return path.suffix.lower() in _WRITABLE


def _read(path: Path) -> Picture:
    with Image.open(path) as opened:
        opened.load()
        info = {key: opened.info[key] for key in _KEPT if key in opened.info}
        image = _upright(opened, path)
        exif = _exif(opened)
    if exif:
        info["exif"] = exif
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        info.pop("icc_profile", None)  # it describes inks, and what is written is RGB
    rgb = image.convert("RGBA").convert("RGB") if alpha else image.convert("RGB")
    grey = image.mode in ("1", "L", "LA", "La")
    return Picture(np.asarray(rgb), alpha, grey, info)


def _upright(opened: Image.Image, path: Path) -> Image.Image:
    """The picture at 8 bits a channel, turned as its EXIF orientation says, if that is sound."""
    image = _eight_bits(opened, path)
    try:
        turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata is no reason to refuse a picture
        turn = None
    return image.copy() if turn is None else image.transpose(turn)


def _exif(image: Image.Image) -> bytes | None:
    """EXIF data without what the new picture makes wrong; None where there is none, or damaged.

    Changes the picture's own: read its orientation before.
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
    """Grey pictures of 16 bits (which Pillow may open as 32) at 8 bits, with their transparency."""
    if image.mode == "F":
        raise PictureError(f"{path} must have 8 or 16 bits a channel, got 32-bit floats")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(f"{path} must have 8 or 16 bits a channel, got 32")
    grey = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _save(image: Image.Image, path: Path, info: dict[str, Any]) -> None:
    """Save beside ``path`` and rename, so that no half of a file is ever seen under its name."""
    kind = _WRITABLE[path.suffix.lower()][0]
    handle, name = tempfile.mkstemp(prefix=".dossr-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        try:
            image.save(temporary, format=kind, **_BEST.get(kind, {}), **info)
        except (ValueError, OSError):  # metadata that the format cannot hold
            if "exif" not in info:
                raise
            kept = {key: value for key, value in info.items() if key != "exif"}
            image.save(temporary, format=kind, **_BEST.get(kind, {}), **kept)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
