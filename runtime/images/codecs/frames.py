"""The frames of a file, one after the other, as a viewer shows them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...tensors import Array
from ..formats import register
from ..kinds import Kind
from .gif import Animation, compose, parse_gif
from .headers import has_many_bits
from .heif import read_heif
from .named import cicp, nclx
from .raster import Raster, decode, of_sixteen
from .sixteen import rawmode
from .tiff import open_layouts, read_layout

_PILLOW = {
    "PNG": ("PNG",), "JPEG": ("JPEG", "MPO"), "GIF": ("GIF",), "WebP": ("WEBP",), "TIFF": ("TIFF",),
    "BMP": ("BMP",),
    "DIB": ("DIB",), "PNM": ("PPM",), "TGA": ("TGA",), "JPEG 2000": ("JPEG2000",), "AVIF": ("AVIF",),
    "HEIC": ("HEIF",), "JPEG XL": ("JXL",), "PSD": ("PSD",), "QOI": ("QOI",), "DDS": ("DDS",),
    "ICNS": ("ICNS",), "SGI": ("SGI",), "Sun raster": ("SUN",), "XPM": ("XPM",), "XBM": ("XBM",),
    "ICO": ("ICO", "CUR"), "PCX": ("PCX",),
}  # fmt: skip
"""Formats of Pillow by the name of a kind."""

_HEAD = 1 << 16
_ANIMATED = ("PNG", "WEBP", "AVIF")
_REDUCED, _ORIENTATION = 254, 274  # TIFF tags; the first is of a thumbnail or a mask
_INFO = {"icc_profile": 34675, "xmp": 700}
"""TIFF tags by Pillow's names for their content."""


@dataclass(frozen=True)
class Shown:
    """One frame, decoded but not yet converted to sRGB."""

    raster: Raster
    image: Image.Image
    """For its metadata; loaded."""

    duration: float | None = None
    disposal: int = 0


@dataclass(frozen=True)
class Frames:
    """What a file holds, before its pixels are decoded."""

    sizes: tuple[tuple[int, int], ...]
    """Width and height of every frame, or of what is decoded for it if that is more."""

    each: Callable[[int], Iterator[Shown]]
    """Decodes the first frames, as many as asked for."""

    loop: int | None = None
    """How often an animation is shown, 0 for ever."""

    notes: tuple[str, ...] = ()


def open_frames(file: BinaryIO, kind: Kind) -> Frames:
    """Return the frames of an open image file, decoding nothing. Raise as Pillow does."""
    for name in _PILLOW[kind.name]:
        register(name)
    if kind.name == "GIF":
        return _of_gif(file, parse_gif(file.read()))
    file.seek(0)
    try:
        image = Image.open(file, formats=_PILLOW[kind.name])
    except UnidentifiedImageError:
        if kind.name != "TIFF":
            raise
        return _of_layouts(file)
    if image.format == "TIFF":
        return _of_pages(file, image)
    if image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1:
        return _of_animation(file, image)
    return _of_still(file, image, kind)


def _reopener(file: BinaryIO, kind: str, frame: int = 0) -> Callable[[], Image.Image]:
    def reopen() -> Image.Image:
        file.seek(0)
        image = Image.open(file, formats=(kind,))
        if frame:
            image.seek(frame)
        return image

    return reopen


def _of_still(file: BinaryIO, image: Image.Image, kind: Kind) -> Frames:
    notes = []
    count = getattr(image, "n_frames", 1)
    if image.format in ("MPO", "HEIF") and count > 1:
        notes.append(f"only its main image is used, of {count}")
    elif image.format == "JPEG" and b"hdr-gain-map" in image.info.get("xmp", b""):
        notes.append("only its main image is used, without its HDR gain map")
    _name_colours(image, _numbers(file, image))
    if kind.name in ("AVIF", "JPEG 2000"):
        file.seek(0)
        if has_many_bits(file.read(_HEAD)) and not image.mode.startswith("I"):
            notes.append("its bits beyond 8 a channel are left out")

    def each(_: int) -> Iterator[Shown]:
        raster = None
        if image.format == "HEIF" and (deep := read_heif(file)) is not None:
            raster = _raster(deep)
        yield Shown(raster or decode(image, _reopener(file, image.format or "")), image)

    return Frames((image.size,), each, notes=tuple(notes))


def _numbers(file: BinaryIO, image: Image.Image) -> dict[str, int] | None:
    """Return the numbers of H.273 that Pillow does not read; the file's position stays as Pillow left it."""
    if image.format not in ("PNG", "AVIF"):
        return None
    at = file.tell()
    file.seek(0)
    numbers = cicp(file) if image.format == "PNG" else nclx(file.read(_HEAD))
    file.seek(at)
    return numbers


def _name_colours(image: Image.Image, numbers: dict[str, int] | None) -> None:
    """Put the numbers of H.273 where HEIC's plugin puts them; in a PNG they go before a profile."""
    if numbers:
        image.info["nclx_profile"] = numbers
        if image.format == "PNG":
            image.info.pop("icc_profile", None)


def _of_gif(file: BinaryIO, animation: Animation) -> Frames:
    parts = animation.parts

    def each(count: int) -> Iterator[Shown]:
        file.seek(0)
        image = Image.open(file, formats=("GIF",))
        for number, (canvas, part) in enumerate(compose(animation)):
            if number == count:
                return
            raster = _of_canvas(canvas, image.mode == "L")
            yield Shown(raster, image, part.duration, part.disposal)

    notes = () if animation.is_ended else ("its end is missing; there may have been more frames",)
    sizes = tuple(max(animation.size, part.box[2:], key=math.prod) for part in parts)
    return Frames(sizes, each, animation.plays, notes)


def _of_canvas(canvas: Array, is_grey: bool) -> Raster:
    colours, alpha = canvas[..., :3], canvas[..., 3]
    if (alpha == 0).any():
        return Raster(colours, alpha)
    return Raster(colours[..., :1] if is_grey else colours)


def _of_animation(file: BinaryIO, image: Image.Image) -> Frames:
    first = int(getattr(image, "default_image", False) is True)  # an APNG's picture for old viewers
    count = getattr(image, "n_frames", 1) - first
    notes = ("its 16-bit frames are read as 8 bits",) if _is_deep(image) else ()
    numbers = _numbers(file, image)

    def each(limit: int) -> Iterator[Shown]:
        for number in range(min(limit, count)):
            image.seek(number + first)
            image.load()
            _name_colours(image, numbers)
            frame = image.copy()
            frame.info = dict(image.info)
            raster = decode(frame, frame.copy)
            disposal = {1: 2, 2: 3}.get(int(image.info.get("disposal", 0)), 0)
            yield Shown(raster, image, float(image.info.get("duration", 0)), disposal)

    loop = image.info.get("loop", 0)
    return Frames((image.size,) * count, each, int(loop), notes)


def _of_pages(file: BinaryIO, image: Image.Image) -> Frames:
    """Return the pages of a TIFF without reduced copies and masks."""
    sizes: list[tuple[int, int]] = []
    kinds: list[object] = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        sizes.append(image.size)
        kinds.append(image.tag_v2.get(_REDUCED))  # type: ignore[attr-defined]
    pages, notes = _without_copies(kinds)

    def each(limit: int) -> Iterator[Shown]:
        for number in pages[:limit]:
            page = _reopener(file, "TIFF", number)()
            says_turn = _ORIENTATION in page.tag_v2  # type: ignore[attr-defined]
            raster = _page(file, page, number)
            if says_turn:  # Pillow removes it once it turned the pixels; XMP would count again
                page.getexif().setdefault(_ORIENTATION, 1)
            yield Shown(raster, page)

    return Frames(tuple(sizes[number] for number in pages), each, notes=notes)


def _without_copies(kinds: Sequence[object]) -> tuple[list[int], tuple[str, ...]]:
    """Return the numbers of a TIFF's pages that are no reduced copies or masks, and notes.

    ``kinds``: NewSubfileType of each page. If all are copies, the last is taken.
    """
    copies = [isinstance(kind, int) and bool(kind & 0b101) for kind in kinds]
    pages = [number for number, copy in enumerate(copies) if not copy] or [len(kinds) - 1]
    left_out = len(kinds) - len(pages)
    return pages, (f"{left_out} reduced copies in it are left out",) if left_out else ()


def _page(file: BinaryIO, page: Image.Image, number: int) -> Raster:
    tags = page.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(258, (1,))
    if tags.get(284) == 2 and max(bits if isinstance(bits, tuple) else (bits,)) > 8:  # planes
        return of_sixteen(read_layout(file, number), tags)
    return decode(page, _reopener(file, "TIFF", number))


def _of_layouts(file: BinaryIO) -> Frames:
    """Return the pages of a TIFF that Pillow does not open."""
    layouts = open_layouts(file)
    pages, notes = _without_copies([one.tags.get(_REDUCED) for one in layouts])

    def each(limit: int) -> Iterator[Shown]:
        for number in pages[:limit]:
            pixels, tags = read_layout(file, number), layouts[number].tags
            deep = pixels.dtype == np.uint16
            yield Shown(of_sixteen(pixels, tags) if deep else _raster(pixels), _about(tags))

    return Frames(tuple(layouts[number].size for number in pages), each, notes=notes)


def _about(tags: dict[int, Any]) -> Image.Image:
    """Return an image without the pixels of a TIFF's page, for what its tags say about them."""
    image = Image.new("L", (1, 1))
    image.info.update(
        {k: tags[tag] for k, tag in _INFO.items() if isinstance(tags.get(tag), bytes)}
    )
    if _ORIENTATION in tags:
        image.getexif()[_ORIENTATION] = tags[_ORIENTATION]
    return image


def _raster(pixels: Array) -> Raster:
    count = pixels.shape[2]
    return Raster(pixels[..., : count - 1], pixels[..., -1]) if count in (2, 4) else Raster(pixels)


def _is_deep(image: Image.Image) -> bool:
    return ";16" in rawmode(image)
