"""The formats that can be written, and what each of them holds."""

import importlib.util
from dataclasses import dataclass

from ..errors import ImageError

_NO_LIMIT = 1 << 31
LARGEST_INFLATED = (1 << 20) - 1
"""Bytes of a compressed text or profile in a PNG; programs that use Pillow refuse the file of a larger one."""

_PACKAGES = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}


@dataclass(frozen=True)
class Format:
    """A format that can be written, and what dossr can put in it."""

    name: str
    """In Pillow."""

    alpha: bool = False
    deep: bool = False
    """Whether it has 16 bits a channel."""

    frames: bool = False
    """Whether it holds animations or, for TIFF, pages."""

    quality: int | None = None
    """Quality where none is asked for, of 100; None: it has no such setting."""

    profile: bool = False
    """Whether it holds a colour profile; results are sRGB otherwise."""

    grey_profile: bool = True
    """Whether a grey image keeps its profile; results with one are sRGB otherwise."""

    largest_profile: int = _NO_LIMIT
    """Bytes of a profile; results with a larger one are sRGB."""

    longest: int = _NO_LIMIT
    """Largest side, in pixels."""

    most_pixels: int = _NO_LIMIT
    """Largest product of width and height."""

    most_bytes: int | None = None
    """Largest size of its pixels."""


_PNG = Format(
    "PNG", alpha=True, deep=True, frames=True, profile=True, largest_profile=LARGEST_INFLATED
)
_JPEG = Format("JPEG", quality=95, profile=True, longest=65500)
_TIFF = Format(
    "TIFF", alpha=True, deep=True, frames=True, profile=True, most_bytes=(1 << 32) - (1 << 24)
)
_WEBP = Format(  # its pixels are always colours
    "WEBP", alpha=True, frames=True, quality=95, profile=True, grey_profile=False, longest=16383
)
_AVIF = Format(  # limits of most decoders; grey with alpha is stored as colours, as in HEIC
    "AVIF", alpha=True, frames=True, quality=90, profile=True, grey_profile=False, longest=32768,
    most_pixels=1 << 28,
)  # fmt: skip
_HEIC = Format("HEIF", alpha=True, quality=90, profile=True, grey_profile=False, longest=16384)

WRITABLE = {
    ".png": _PNG,
    ".apng": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".gif": Format("GIF", alpha=True, frames=True, longest=65535),
    ".avif": _AVIF,
    ".heic": _HEIC,
    ".heif": _HEIC,
    ".jxl": Format("JXL", alpha=True, quality=95),
    ".jp2": Format("JPEG2000", alpha=True),
    ".bmp": Format("BMP", most_bytes=(1 << 32) - (1 << 16)),
    ".ppm": Format("PPM"),
    ".tga": Format("TGA", alpha=True, longest=65535),
}
"""Formats by suffix. The other formats of Pillow change the size, need another program or lack colour."""


def register(name: str) -> None:
    """Make Pillow's plugin of a format known, before the first such file is read or written."""
    if name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    elif name == "JXL":
        import pillow_jxl  # noqa: F401


def writable(suffix: str) -> Format:
    """Return the format of a suffix such as .png.

    Raise ImageError if it is unknown, or if it needs a package that is not installed.
    """
    kind = WRITABLE.get(suffix.lower())
    if kind is None:
        raise ImageError(
            f"'{suffix}' is not a format that can be written; take one of {', '.join(WRITABLE)}"
        )
    package = _PACKAGES.get(kind.name)
    if package and not importlib.util.find_spec(package):
        raise ImageError(f"'{suffix}' needs another package: pip install 'dossr[images]'")
    from PIL import features  # not for the help of the command

    if kind.name == "AVIF" and not features.check("avif"):
        raise ImageError("'.avif' needs a newer Pillow: pip install 'pillow>=11.3'")
    return kind
