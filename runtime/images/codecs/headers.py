"""Sizes that a file claims, where Pillow would decode or allocate before it tells."""

import struct
from typing import BinaryIO

_HEAD = 64
_BOXES = 1000  # of a container, looked through
_SIDES = {12: "<HH", **dict.fromkeys((40, 52, 56, 64, 108, 124), "<ii")}
"""How a bitmap's header holds its sides, by the bytes of the header, which come first. Pillow reads no others."""


def claimed_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return width and height of a WebP or JPEG XL file, or of the largest image in an ICO file.

    None for others, or where they are unclear.
    """
    file.seek(0)
    head = file.read(_HEAD)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp_size(head)
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0"):
        return _icon_size(file)
    if head[4:8] == b"JXL ":
        head = _codestream(file)
    return _jxl_size(head[2:]) if head[:2] == b"\xff\x0a" else None


def has_many_bits(data: bytes) -> bool:
    """Return whether an AVIF or JPEG 2000 file says that it has more than 8 bits a channel."""
    at = data.find(b"av1C")
    if at >= 0:
        return at + 6 < len(data) and bool(data[at + 6] & 0x40)
    at = data.find(b"\xff\x4f\xff\x51")
    return at >= 0 and at + 42 < len(data) and data[at + 42] & 0x7F > 7


def _webp_size(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _icon_size(file: BinaryIO) -> tuple[int, int] | None:
    """Read what the entries of an ICO or CUR file point to, since an entry itself tells up to 256 only."""
    file.seek(4)
    entries = file.read(16 * int.from_bytes(file.read(2), "little"))
    sizes = []
    for at in range(12, len(entries) - 3, 16):
        file.seek(int.from_bytes(entries[at : at + 4], "little"))
        head = file.read(24)
        if len(head) < 24:
            continue
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            sizes.append((int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:], "big")))
        elif sides := _SIDES.get(int.from_bytes(head[:4], "little")):
            width, height = struct.unpack_from(sides, head, 4)
            sizes.append((abs(width), abs(height) // 2))  # the mask lies below the image
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def _codestream(file: BinaryIO) -> bytes:
    """Return the start of the image in a JPEG XL container."""
    at = 0
    for _ in range(_BOXES):
        file.seek(at)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        start = at + (16 if size == 1 else 8) + 4 * (kind == b"jxlp")
        if kind in (b"jxlc", b"jxlp"):
            file.seek(start)
            return file.read(_HEAD)
        at += int.from_bytes(head[8:], "big") if size == 1 else size
        if size == 0 or len(head) < 16:
            break
    return b""


def _jxl_size(data: bytes) -> tuple[int, int] | None:
    """Read SizeHeader (ISO/IEC 18181-1), whose bits start at the lowest."""
    if len(data) < 12:
        return None
    bits, at = int.from_bytes(data[:12], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else 1 + take((9, 13, 18, 30)[take(2)])

    height = side()
    ratio = take(3)
    over, under = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return (height * over // under if ratio else side()), height
