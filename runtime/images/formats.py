"""The formats that can be written, and what each of them holds."""

from dataclasses import dataclass

from ..errors import ImageError

_NO_LIMIT = 1 << 31


@dataclass(frozen=True)
class Format:
    """A format that can be written."""

    name: str
    """In Pillow."""

    alpha: bool = False
    deep: bool = False
    """Whether it has 16 bits a channel."""

    frames: bool = False
    """Whether it holds animations or, for TIFF, pages."""

    quality: bool = False
    longest: int = _NO_LIMIT
    """Largest side, in pixels."""


WRITABLE = {
    ".png": Format("PNG", alpha=True, deep=True, frames=True),
    ".apng": Format("PNG", alpha=True, deep=True, frames=True),
    ".jpg": Format("JPEG", quality=True, longest=65500),
    ".jpeg": Format("JPEG", quality=True, longest=65500),
    ".jpe": Format("JPEG", quality=True, longest=65500),
    ".jfif": Format("JPEG", quality=True, longest=65500),
    ".webp": Format("WEBP", alpha=True, frames=True, quality=True, longest=16383),
    ".tif": Format("TIFF", alpha=True, deep=True, frames=True),
    ".tiff": Format("TIFF", alpha=True, deep=True, frames=True),
    ".gif": Format("GIF", alpha=True, frames=True, longest=65535),
    ".bmp": Format("BMP"),
    ".ppm": Format("PPM"),
    ".tga": Format("TGA", alpha=True, longest=65535),
    ".jp2": Format("JPEG2000", alpha=True, quality=True),
    ".avif": Format("AVIF", alpha=True, frames=True, quality=True, longest=65535),
    ".heic": Format("HEIF", alpha=True, quality=True, longest=16384),
    ".heif": Format("HEIF", alpha=True, quality=True, longest=16384),
    ".jxl": Format("JXL", alpha=True, quality=True),
}
"""Formats by suffix."""


def writable(suffix: str) -> Format:
    """Return the format of a suffix; raise ImageError if it cannot be written."""
    try:
        return WRITABLE[suffix.lower()]
    except KeyError:
        raise ImageError(
            f"'{suffix}' is not a format that can be written; use one of {', '.join(WRITABLE)}"
        ) from None
