"""Picture files: any of Pillow's formats and modes in, the same kind of picture out."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .pipeline import SCALE
from .pipeline import Image as Pixels

_KEPT = ("icc_profile", "dpi")
_WITHOUT_ALPHA = {"JPEG", "BMP", "PPM"}


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
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} must be a picture, and no known format fits it") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path} is too large a picture: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PictureError(f"{path} cannot be read, it may be cut off: {error}") from error
    info = {key: image.info[key] for key in _KEPT if key in image.info}
    if exif := image.getexif().tobytes():
        info["exif"] = exif
    grey = image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    image = _eight_bits(image, path)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in ("CMYK", "LAB", "YCbCr"):
        info.pop("icc_profile", None)  # it describes inks, and what is written is RGB
    rgb = image.convert("RGBA").convert("RGB") if alpha else image.convert("RGB")
    return Picture(np.asarray(rgb), alpha, grey, info)


def write_picture(path: Path, pixels: Pixels, source: Picture, scale: float) -> tuple[int, int]:
    """Write the upscaled ``pixels`` of a source and return the width and height written.

    The picture is reduced to ``scale`` times the source where that is not 4. The file appears
    whole or not at all. Raises PictureError in one line.
    """
    image = Image.fromarray(pixels)
    height, width = source.pixels.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale != SCALE:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if source.is_grey:
        image = image.convert("L")
    if source.alpha is not None:
        image.putalpha(source.alpha.resize(size, Image.Resampling.BICUBIC))
    kind = Image.registered_extensions()[path.suffix.lower()]
    if source.alpha is not None and kind in _WITHOUT_ALPHA:
        raise PictureError(f"{path.name} cannot hold the transparency of its source; write a .png")
    try:
        _atomically(path, lambda temporary: image.save(temporary, format=kind, **source.info))
    except (OSError, ValueError) as error:
        raise PictureError(f"{path} cannot be written: {error}") from error
    return image.size


def is_picture_name(path: Path) -> bool:
    """Whether a file's suffix is one that can be read."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.OPEN


def is_writable_name(path: Path) -> bool:
    """Whether a file's suffix is one that can be written."""
    return Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Grey pictures of 16 bits (which Pillow may open as 32) at 8 bits."""
    if image.mode == "F":
        raise PictureError(f"{path} must have 8 or 16 bits a channel, got 32-bit floats")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError(f"{path} must have 8 or 16 bits a channel, got 32")
    return Image.fromarray(np.rint(values / 257.0).astype(np.uint8))


def _atomically(path: Path, save: Callable[[Path], None]) -> None:
    """Save beside ``path`` and rename, so that no half of a file is ever seen under its name."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        save(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
