"""GIF animations: frames composed as browsers do, and written with a palette each.

Pillow merges equal frames when it writes, and clears to a background colour that browsers ignore.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...tensors import Array

_COLOURS = 256
_LONGEST = 65535  # hundredths of a second
_CLEAR, _RESTORE = 2, 3
_NETSCAPE = b"NETSCAPE2.0"
_NO_CONTROL: tuple[int, float, int | None] = (0, 0.0, None)  # disposal, duration, transparent index


@dataclass(frozen=True)
class Part:
    """One image of a GIF file, not decoded."""

    data: bytes
    """A GIF file of this image alone."""

    box: tuple[int, int, int, int]
    """Left, top, width and height on the canvas."""

    palette: Array
    """uint8 (colours, 3)."""

    transparent: int | None
    duration: float
    """Milliseconds."""

    disposal: int


@dataclass(frozen=True)
class Animation:
    """The structure of a GIF file."""

    size: tuple[int, int]
    parts: tuple[Part, ...]
    plays: int
    """How often it is shown, 0 for ever."""

    is_ended: bool
    """Whether the file says that nothing follows."""


def parse_gif(data: bytes) -> Animation:
    """Take a GIF apart. Raise ValueError if it is cut off."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13
    shared, at = _palette(data, at, flags)
    parts: list[Part] = []
    plays, control = 1, _NO_CONTROL
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x21:
            kind, blocks, at = data[at + 1], *_blocks(data, at + 2)
            if kind == 0xF9 and blocks and len(blocks[0]) >= 4:
                control = _control(blocks[0])
            elif (
                kind == 0xFF and len(blocks) > 1 and blocks[0] == _NETSCAPE and len(blocks[1]) >= 3
            ):
                plays = _plays(int.from_bytes(blocks[1][1:3], "little"))
        elif data[at] == 0x2C:
            part, at = _part(data, at, shared, control)
            if part is not None:
                parts.append(part)
            control = _NO_CONTROL
        else:
            at += 1
    if at > len(data) or not parts:
        raise ValueError("it ends within an image")
    if not width or not height:  # some files do not say; browsers take the first frame's
        left, top, columns, rows = parts[0].box
        width, height = left + columns, top + rows
    return Animation((width, height), tuple(parts), plays, at < len(data))


def compose(animation: Animation) -> Iterator[tuple[Array, Part]]:
    """Yield uint8 (height, width, 4) for each frame as a browser shows it, on a clear canvas."""
    width, height = animation.size
    canvas = np.zeros((height, width, 4), np.uint8)
    for part in animation.parts:
        left, top, columns, rows = part.box
        region = canvas[top : top + rows, left : left + columns]
        before = region.copy()
        with Image.open(io.BytesIO(part.data), formats=("GIF",)) as image:
            image.load()
            indices = np.asarray(image.convert("P") if image.mode != "P" else image)
        indices = indices[: region.shape[0], : region.shape[1]]
        drawn = indices != part.transparent
        colours = part.palette[np.minimum(indices, len(part.palette) - 1)]
        region[drawn] = np.concatenate(
            [colours, np.full((*indices.shape, 1), 255, np.uint8)], axis=-1
        )[drawn]
        yield canvas.copy(), part
        if part.disposal == _CLEAR:
            region[:] = 0
        elif part.disposal == _RESTORE:
            region[:] = before


def encode_gif(
    frames: Sequence[tuple[Array, Array | None]],
    durations: Sequence[float],
    disposals: Sequence[int],
    plays: int,
    comment: bytes | None,
) -> bytes:
    """Return a GIF of uint8 (height, width, 3) frames and their alpha, which becomes 0 or 255."""
    height, width = frames[0][0].shape[:2]
    pieces = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x70, 0, 0)]
    if len(frames) > 1 and plays != 1:
        pieces.append(
            b"\x21\xff\x0b"
            + _NETSCAPE
            + struct.pack("<BBHB", 3, 1, min(max(plays - 1, 0), 65535), 0)
        )
    if comment:
        chunks = [comment[at : at + 255] for at in range(0, len(comment), 255)]
        pieces += [b"\x21\xfe", *(bytes([len(chunk)]) + chunk for chunk in chunks), b"\0"]
    for (pixels, alpha), duration, disposal in zip(frames, durations, disposals, strict=True):
        pieces.append(_encoded(pixels, alpha, duration, disposal))
    return b"".join((*pieces, b"\x3b"))


def _encoded(pixels: Array, alpha: Array | None, duration: float, disposal: int) -> bytes:
    """Return control, descriptor, palette and data of one frame, taken from a GIF of Pillow's."""
    clear = alpha is not None and bool((alpha < 128).any())
    image = Image.fromarray(pixels)
    few = image.getcolors(_COLOURS - clear)
    palette = image.quantize(_COLOURS - clear, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    dither = Image.Dither.NONE if few else Image.Dither.FLOYDSTEINBERG
    indices = np.asarray(image.quantize(palette=palette, dither=dither)).copy()
    colours = (palette.getpalette() or [])[: 3 * (_COLOURS - clear)]
    if clear:
        assert alpha is not None
        indices[alpha < 128] = _COLOURS - 1
    frame = Image.fromarray(indices, "P")
    frame.putpalette(colours + [0] * (3 * _COLOURS - len(colours)))
    file = io.BytesIO()
    frame.save(file, "GIF", optimize=False)
    data = file.getvalue()
    table, start = _palette(data, 13, data[10])
    start = _skip_to_image(data, start)
    hundredths = min(max(round(duration / 10), 0), _LONGEST)
    control = struct.pack(
        "<BBBBHBB",
        0x21,
        0xF9,
        4,
        disposal << 2 | clear,
        hundredths,
        _COLOURS - 1 if clear else 0,
        0,
    )
    interlace = data[start + 9] & 0x40
    descriptor = data[start : start + 9] + bytes([0x87 | interlace])
    rest = data[start + 10 : -1]
    return control + descriptor + table.tobytes().ljust(3 * _COLOURS, b"\0") + rest


def _skip_to_image(data: bytes, at: int) -> int:
    while data[at] == 0x21:
        _, at = _blocks(data, at + 2)
    return at


def _part(
    data: bytes, at: int, shared: Array, control: tuple[int, float, int | None]
) -> tuple[Part | None, int]:
    """Return an image, None if it has no pixels or colours, and where it ends."""
    if at + 11 > len(data):
        return None, len(data) + 1
    left, top, width, height, flags = struct.unpack_from("<4HB", data, at + 1)
    table, start = _palette(data, at + 10, flags)
    palette = table if len(table) else shared
    _, end = _blocks(data, start + 1)
    if not len(palette) or not width or not height:
        return None, end
    size = max(1, int(len(palette) - 1).bit_length())
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | size - 1, 0, 0)
    colours = palette.tobytes().ljust(3 << size, b"\0")
    descriptor = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, flags & 0x40)
    alone = head + colours + descriptor + data[start:end] + b"\x3b"
    disposal, duration, transparent = control
    return Part(alone, (left, top, width, height), palette, transparent, duration, disposal), end


def _palette(data: bytes, at: int, flags: int) -> tuple[Array, int]:
    """Return a colour table, empty if there is none, and where it ends."""
    count = 2 << (flags & 7) if flags & 0x80 else 0
    table = np.frombuffer(data[at : at + 3 * count], np.uint8)
    return table[: len(table) // 3 * 3].reshape(-1, 3), at + 3 * count


def _blocks(data: bytes, at: int) -> tuple[list[bytes], int]:
    """Return a chain of blocks and where it ends."""
    blocks = []
    while at < len(data) and data[at]:
        blocks.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return blocks, at + 1


def _control(block: bytes) -> tuple[int, float, int | None]:
    flags, delay, transparent = struct.unpack_from("<BHB", block)
    return flags >> 2 & 7, delay * 10.0, transparent if flags & 1 else None


def _plays(loops: int) -> int:
    """Return how often an animation is shown that is repeated ``loops`` times, 0 for ever."""
    return loops + 1 if loops else 0
