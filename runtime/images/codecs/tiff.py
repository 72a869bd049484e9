"""Write TIFF of 8 or 16 bits a channel, with pages; read the layouts that Pillow does not know."""

import logging
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from ...errors import ImageError
from ...tensors import Array
from ..kinds import SCALE_FIRST
from ..metadata import directory
from ..source import Metadata
from .raster import white_level

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # otherwise it logs to stderr

_ROWS = 64  # of a strip
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_DEFLATE, _PREDICTOR, _INCH, _UNASSOCIATED = 8, 2, 2, 2
_WHITE_IS_ZERO = 0
_COLORS = {_WHITE_IS_ZERO: 1, 1: 1, 2: 3}  # channels of grey and RGB, by photometric interpretation
_HEADER = b"II*\0"
_SAYING = (254, 258, 274, 281, 341, 700, 34675)
"""Tags of what a page is, of its levels, orientation, XMP and profile."""


@dataclass(frozen=True)
class Page:
    """One image to write."""

    pixels: Array
    """uint8 or uint16 (height, width, 1 to 4)."""

    metadata: Metadata
    profile: bytes | None


def encode_tiff(pages: Sequence[Page]) -> bytes:
    """Return a TIFF file, compressed with deflate and horizontal differences."""
    data, link = bytearray(_HEADER + bytes(4)), 4
    for page in pages:
        strips = _strips(page.pixels)
        directory = _directory(page, [len(strip) for strip in strips])
        at = len(data)
        struct.pack_into("<I", data, link, at)
        link = at + 2 + 12 * len(directory)  # where the next directory's place is written
        data += directory.tobytes(at)
        for strip in strips:
            data += strip
        data += bytes(len(data) % 2)
    return bytes(data)


@dataclass(frozen=True)
class Layout:
    """A page of a file that Pillow does not open."""

    size: tuple[int, int]
    tags: dict[int, Any]
    """Values by number, of the tags that matter here."""


def open_layouts(file: BinaryIO) -> list[Layout]:
    """Return what the pages of a file that Pillow does not open say; decode nothing. Raise as tifffile."""
    with _opened(file) as tiff:
        return [
            Layout(
                (int(page.imagewidth), int(page.imagelength)),
                {tag.code: tag.value for tag in page.tags if tag.code in _SAYING},
            )
            for page in _pages(tiff)
        ]


def read_layout(file: BinaryIO, page: int) -> Array:
    """Return uint8 or uint16 (height, width, 1 to 4) of a page that Pillow does not know.

    The channels are grey or RGB, then transparency: one further channel, or the first of several if
    the page says so. Raise ImageError if it is of floats, other depths or other colours; else as tifffile.
    """
    with _opened(file) as tiff:
        found: Any = tiff.pages[page]
        pixels: Array = found.asarray()
        if found.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.dtype not in (np.uint8, np.uint16) or found.axes not in ("YX", "YXS", "SYX"):
            raise ImageError(f"must have 8 or 16 bits a channel, got {pixels.dtype}; {SCALE_FIRST}")
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        colors = _COLORS.get(int(found.photometric), 0)
        if not 0 < colors <= pixels.shape[2]:
            kind = getattr(found.photometric, "name", found.photometric)
            raise ImageError(
                f"must be grey or RGB, got {kind} of {pixels.shape[2]} channels; save it as RGB first"
            )
        if found.photometric == _WHITE_IS_ZERO:
            levels = pixels[..., 0]
            top = white_level({tag.code: tag.value for tag in found.tags})
            is_told = levels.dtype == np.uint16 and top >= levels.max()
            pixels[..., 0] = (top if is_told else np.iinfo(levels.dtype).max) - levels
        is_clear = pixels.shape[2] == colors + 1 or 0 not in found.extrasamples[:1]
        return pixels[..., : colors + is_clear]


def _opened(file: BinaryIO) -> Any:
    """Open a file with tifffile; raise ImageError, to follow its name, if that is not installed."""
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise ImageError(
            "must be an image, and this TIFF cannot be opened; for planes, or grey with alpha, of 16 bits: "
            "pip install 'dossr[images]'"
        ) from error
    file.seek(0)
    return tifffile.TiffFile(file)


def _pages(tiff: Any) -> Iterator[Any]:
    """Yield the pages up to one that was there before: a damaged file's directories may go round for ever."""
    seen = set[int]()
    for page in tiff.pages:
        if page.offset in seen:
            return
        seen.add(page.offset)
        yield page


def _strips(pixels: Array) -> list[bytes]:
    strips = []
    for start in range(0, pixels.shape[0], _ROWS):
        rows = pixels[start : start + _ROWS]
        changes = rows.copy()
        changes[:, 1:] -= rows[:, :-1]
        strips.append(zlib.compress(changes.astype(changes.dtype.newbyteorder("<")).tobytes(), 6))
    return strips


def _directory(page: Page, counts: list[int]) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags of a page whose strips follow them; Pillow adds the place of the first."""
    height, width, channels = page.pixels.shape
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    _describe(ifd, page.metadata)
    ifd[256], ifd[257] = width, height
    offsets = tuple(sum(counts[:number]) for number in range(len(counts)))
    ifd[258] = (8 * page.pixels.itemsize,) * channels
    ifd[259], ifd[317] = _DEFLATE, _PREDICTOR
    ifd[262] = 1 if channels < 3 else 2
    ifd[273], ifd[277], ifd[278], ifd[279] = offsets, channels, _ROWS, tuple(counts)
    if channels in (2, 4):
        ifd[338] = _UNASSOCIATED
    if page.profile:
        ifd[34675] = page.profile
    return ifd


def _describe(ifd: TiffImagePlugin.ImageFileDirectory_v2, metadata: Metadata) -> None:
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag in exif:
            if tag not in (_EXIF_IFD, _GPS_IFD, 256, 257, 282, 283, 296):
                ifd[tag] = exif[tag]
        for tag in (_EXIF_IFD, _GPS_IFD):
            if inner := directory(exif, tag):
                ifd[tag] = inner
    if metadata.dpi:
        ifd[282], ifd[283], ifd[296] = *metadata.dpi, _INCH
    for tag, kind, value in ((700, 1, metadata.xmp), (33723, 7, metadata.iptc)):
        if value:
            ifd.tagtype[tag] = kind
            ifd[tag] = value
