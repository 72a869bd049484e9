"""Read image files: every format, mode and depth, as upright sRGB frames."""

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ..errors import ImageError, one_line, reason
from ..tensors import MAX_PIXELS, Array
from ..terminal import captured_stderr
from .alpha import spread
from .codecs.frames import Frames, Shown, open_frames
from .codecs.headers import claimed_size
from .codecs.named import named_profile
from .inks import cmyk_to_srgb
from .kinds import Kind, classify_content
from .metadata import orientation, read_metadata
from .profiles import Profile, ProfileError, open_profile, srgb
from .source import Frame, Metadata, SourceImage

logging.getLogger("PIL").addHandler(logging.NullHandler())  # otherwise it logs to stderr

_HARMLESS = ("TIFFFetchNormalTag", "TIFFReadDirectory", "_TIFFVSetField")
"""Starts of libtiff's warnings about descriptive tags, which do not concern the pixels."""

_NAMES = {1: "grey", 3: "RGB", 4: "CMYK"}
_Any = TypeVar("_Any", bound=Array | None)


def read_image(
    source: Path | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    *,
    first_frame: bool = False,
    name: str = "standard input",
) -> SourceImage:
    """Read an image file: what it is decides its content, not its name.

    ``max_pixels``: of all frames together, checked before they are decoded. ``first_frame``: leave the
    other frames of an animation, or pages, out. ``name``: of an open file, for messages. Raise
    ImageError, one line, if it fails.
    """
    path = str(source) if isinstance(source, Path) else name
    try:
        with captured_stderr() as stderr, _unlimited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata
            with _opened(source) as file:
                image = _read(file, Path(path).suffix.lower(), max_pixels, first_frame)
    except ImageError as error:
        raise ImageError(one_line(f"{path} {error}")) from error.__cause__
    except MemoryError as error:
        raise ImageError(f"{path} needs more memory than is available") from error
    except OSError as error:
        why = error.strerror or f"it may be truncated: {reason(error)}"
        raise ImageError(f"{path} cannot be read: {why}") from error
    except Exception as error:  # for a damaged file, Pillow's decoders raise nearly anything
        raise ImageError(f"{path} cannot be read: it may be truncated: {reason(error)}") from error
    warned = [line for line in stderr.text.splitlines() if not line.startswith(_HARMLESS)]
    if warned:
        raise ImageError(f"{path} is damaged: {one_line(warned[0])}")
    return image


def count_frames(path: Path) -> int:
    """Return how many frames or pages an image file holds, decoding none; 1 if it cannot be read."""
    try:
        with captured_stderr(), _unlimited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(path) as file:
                return len(open_frames(file, classify_content(file, path.suffix.lower())).sizes)
    except Exception:  # as read_image will tell
        return 1


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file if file.seekable() else io.BytesIO(file.read())
    else:
        yield source if source.seekable() else io.BytesIO(source.read())


@contextmanager
def _unlimited() -> Iterator[None]:
    """Lift Pillow's own limit of pixels, because ``max_pixels`` is checked before decoding.

    Also let one compressed text or profile of a PNG be as large as Pillow lets all texts be.
    """
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, PngImagePlugin.MAX_TEXT_MEMORY
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before


def _read(file: BinaryIO, suffix: str, max_pixels: int, first_frame: bool) -> SourceImage:
    """Read an open file; the messages of ImageError follow its name."""
    kind = classify_content(file, suffix)
    _check_kind(kind)
    if size := claimed_size(file):
        _check_size([size], max_pixels)
    file.seek(0)
    try:
        frames = open_frames(file, kind)
    except UnidentifiedImageError as error:
        raise ImageError(f"must be an image, and this {kind.name} file cannot be opened") from error
    count = 1 if first_frame else len(frames.sizes)
    _check_size(frames.sizes[:count], max_pixels)
    return _collected(frames, count)


def _check_kind(kind: Kind) -> None:
    """Raise ImageError unless the file is an image that can be read here."""
    remedy = f"; {kind.remedy}" if kind.remedy else ""
    if kind.role == "missing":
        raise ImageError(f"is {kind.name}, which needs another package{remedy}")
    if kind.role == "refused":
        raise ImageError(f"is {kind.name}, which cannot be read{remedy}")
    if kind.role != "image":
        what = "and its format is unknown" if kind.name == "unknown" else f"got {kind.name}"
        raise ImageError(f"must be an image, {what}{remedy}")


def _check_size(sizes: "list[tuple[int, int]] | tuple[tuple[int, int], ...]", limit: int) -> None:
    if sum(width * height for width, height in sizes) <= limit:
        return
    size = "{} x {}".format(*max(sizes, key=math.prod))
    many = f", {len(sizes)} frames" if len(sizes) > 1 else ""
    remedy = "reduce the image" if len(sizes) == 1 else "take the first alone by --first-frame"
    raise ImageError(
        f"must have at most {limit} pixels, got {size}{many}; pass a larger --max-pixels, or {remedy}"
    )


@dataclass(frozen=True)
class _Developed:
    """One frame, and what the file says about it."""

    frame: Frame
    channels: int
    has_alpha: bool
    profile: bytes | None
    notes: tuple[str, ...]


def _collected(frames: Frames, count: int) -> SourceImage:
    developed: list[_Developed] = []
    metadata = Metadata()
    for shown in frames.each(count):
        developed.append(_developed(shown))
        if len(developed) == 1:
            metadata = read_metadata(shown.image)
    if len(developed) < count:
        raise ImageError(f"is damaged: it has {len(developed)} of {count} frames")
    profiles = {one.profile for one in developed}
    left_out = len(frames.sizes) - count
    notes = [note for one in developed for note in one.notes]
    if left_out:
        notes.append(f"its first frame is used, of {len(frames.sizes)}")
    deep = any(one.frame.pixels.dtype == np.uint16 for one in developed)
    return SourceImage(
        tuple(_of_depth(one.frame, deep) for one in developed),
        depth=16 if deep else 8,
        is_grey=all(one.channels == 1 for one in developed),
        has_alpha=any(one.has_alpha for one in developed),
        profile=profiles.pop() if len(profiles) == 1 else srgb(),
        metadata=metadata,
        loop=frames.loop,
        notes=tuple(dict.fromkeys((*frames.notes, *notes))),
    )


def _of_depth(frame: Frame, deep: bool) -> Frame:
    """Return an 8-bit page of a file with 16-bit pages in 16 bits."""
    if not deep or frame.pixels.dtype == np.uint16:
        return frame
    alpha = None if frame.alpha is None else frame.alpha.astype(np.uint16) * 257
    beyond = None if frame.beyond is None else frame.beyond * 257
    return Frame(
        frame.pixels.astype(np.uint16) * 257, alpha, frame.duration, frame.disposal, beyond
    )


def _developed(shown: Shown) -> _Developed:
    """Convert a frame to sRGB, turn it upright and continue its colours under what is transparent."""
    raster, turn = shown.raster, orientation(shown.image)
    channels = raster.channels.shape[2]
    data = None if raster.is_srgb else shown.image.info.get("icc_profile")
    profile, notes = _usable(data, channels)
    if not data and not raster.is_srgb and channels != 4:
        named, notes = named_profile(shown.image, channels)
        profile = open_profile(named, channels) if named else None
    pixels, beyond, more = _to_srgb(raster.channels, profile)
    alpha = raster.alpha
    opaque = alpha is None or bool((alpha == np.iinfo(alpha.dtype).max).all())
    turned = _turner(turn)
    pixels = np.ascontiguousarray(turned(pixels))
    beyond = None if beyond is None else turned(beyond)
    if alpha is not None and not opaque:
        alpha = np.ascontiguousarray(turned(alpha))
        pixels = spread(pixels, alpha)
        beyond = None if beyond is None else spread(beyond, alpha)
    frame = Frame(pixels, None if opaque else alpha, shown.duration, shown.disposal, beyond)
    kept = srgb() if channels == 4 or raster.is_srgb else None
    if profile is not None and channels != 4:
        kept = profile.data if profile.from_srgb else srgb()
    return _Developed(
        frame, channels, raster.alpha is not None, kept, (*raster.notes, *notes, *more)
    )


def _usable(data: object, channels: int) -> tuple[Profile | None, tuple[str, ...]]:
    """Return the profile of an image if it fits its pixels, and notes."""
    if not data:
        return None, ()
    try:
        if not isinstance(data, bytes):
            raise ProfileError("is damaged")
        return open_profile(data, channels), ()
    except ProfileError as error:
        return None, (
            f"its colour profile {error} and is left out of this {_NAMES[channels]} image",
        )


def _to_srgb(
    channels: Array, profile: Profile | None
) -> tuple[Array, Array | None, tuple[str, ...]]:
    """Return sRGB pixels, what the profile holds beyond them, and notes."""
    if channels.shape[2] == 4:
        pixels, note = cmyk_to_srgb(channels, profile)
        return pixels, None, (note,)
    if profile is None or profile.is_srgb:
        return np.repeat(channels, 3, axis=2) if channels.shape[2] == 1 else channels, None, ()
    pixels = profile.to_srgb(channels)
    return pixels, profile.beyond_srgb(channels, pixels), ()


def _turner(turn: int) -> Callable[[Array], Array]:
    """Return a function that undoes an EXIF orientation, of 1 to 8."""
    changes: dict[int, Callable[[Array], Array]] = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90,
    }
    return changes.get(turn, lambda a: a)
