"""The frames of a file, one after the other, as a viewer shows them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from ...tensors import Array
from ..formats import register
from ..kinds import Kind
from .gif import Animation, compose, parse_gif
from .headers import has_many_bits
from .heif import read_heif
from .named import nclx
from .raster import Raster, decode, of_sixteen
from .sixteen import rawmode
from .tiff import open_layout, read_layout

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
_REDUCED = 254  # TIFF tag of a thumbnail or a mask


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
    """Width and height of every frame."""

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
        return _of_layout(file)
    if image.format == "TIFF":
        return _of_pages(file, image)
    if image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1:
        return _of_animation(image)
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
    if kind.name in ("AVIF", "JPEG 2000"):
        file.seek(0)
        head = file.read(_HEAD)
        image.info["nclx_profile"] = nclx(head)
        if has_many_bits(head) and not image.mode.startswith("I"):
            notes.append("its bits beyond 8 a channel are left out")

    def each(_: int) -> Iterator[Shown]:
        raster = None
        if image.format == "HEIF" and (deep := read_heif(file)) is not None:
            raster = _raster(deep)
        yield Shown(raster or decode(image, _reopener(file, image.format or "")), image)

    return Frames((image.size,), each, notes=tuple(notes))


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
    return Frames((animation.size,) * len(parts), each, animation.plays, notes)


def _of_canvas(canvas: Array, is_grey: bool) -> Raster:
    colours, alpha = canvas[..., :3], canvas[..., 3]
    if (alpha == 0).any():
        return Raster(colours, alpha)
    return Raster(colours[..., :1] if is_grey else colours)


def _of_animation(image: Image.Image) -> Frames:
    first = int(getattr(image, "default_image", False) is True)  # an APNG's picture for old viewers
    count = getattr(image, "n_frames", 1) - first
    notes = ("its 16-bit frames are read as 8 bits",) if _is_deep(image) else ()

    def each(limit: int) -> Iterator[Shown]:
        for number in range(min(limit, count)):
            image.seek(number + first)
            image.load()
            frame = image.copy()
            frame.info = dict(image.info)
            raster = decode(frame, frame.copy)
            disposal = {1: 2, 2: 3}.get(int(image.info.get("disposal", 0)), 0)
            yield Shown(raster, image, float(image.info.get("duration", 0)), disposal)

    loop = image.info.get("loop", 0)
    return Frames((image.size,) * count, each, int(loop), notes)


def _of_pages(file: BinaryIO, image: Image.Image) -> Frames:
    """Return the pages of a TIFF without reduced copies and masks."""
    pages: list[int] = []
    sizes: list[tuple[int, int]] = []
    count = getattr(image, "n_frames", 1)
    for number in range(count):
        image.seek(number)
        if not _is_copy(image) or (not pages and number == count - 1):
            pages.append(number)
            sizes.append(image.size)
    notes = (
        [f"{count - len(pages)} reduced copies in it are left out"] if len(pages) < count else []
    )

    def each(limit: int) -> Iterator[Shown]:
        for number in pages[:limit]:
            page = _reopener(file, "TIFF", number)()
            yield Shown(_page(file, page, number), page)

    return Frames(tuple(sizes), each, notes=tuple(notes))


def _page(file: BinaryIO, page: Image.Image, number: int) -> Raster:
    tags = page.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(258, (1,))
    if tags.get(284) == 2 and max(bits if isinstance(bits, tuple) else (bits,)) > 8:  # planes
        return of_sixteen(read_layout(file, number), tags)
    return decode(page, _reopener(file, "TIFF", number))


def _of_layout(file: BinaryIO) -> Frames:
    """Return the first page of a TIFF that Pillow does not open."""
    layout = open_layout(file)
    image = Image.new("L", (1, 1))  # for what is written about it
    image.info.update(layout.info)
    image.getexif()[0x0112] = layout.orientation

    def each(_: int) -> Iterator[Shown]:
        yield Shown(_layout(file, 0), image)

    return Frames((layout.size,), each)


def _layout(file: BinaryIO, number: int) -> Raster:
    return _raster(read_layout(file, number))


def _raster(pixels: Array) -> Raster:
    count = pixels.shape[2]
    return Raster(pixels[..., : count - 1], pixels[..., -1]) if count in (2, 4) else Raster(pixels)


def _is_copy(image: Image.Image) -> bool:
    kind = image.tag_v2.get(_REDUCED, 0)  # type: ignore[attr-defined]
    return isinstance(kind, int) and bool(kind & 0b101)


def _is_deep(image: Image.Image) -> bool:
    return ";16" in rawmode(image)
