"""Sizes that a file claims, where Pillow would decode or allocate before it tells."""

import struct


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a WebP or JPEG XL file; None for others, or where they are unclear."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and data[12:16] == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[4:8] == b"JXL ":
        data = _codestream(data)
    return _jxl_size(data[2:]) if data[:2] == b"\xff\x0a" else None


def has_many_bits(data: bytes) -> bool:
    """Return whether an AVIF file says that it has 10 or 12 bits a channel."""
    at = data.find(b"av1C")
    return at >= 0 and at + 6 < len(data) and bool(data[at + 6] & 0x40)


def _codestream(data: bytes) -> bytes:
    """Return the start of the image in a JPEG XL container."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + (16 if size == 1 else 8)
        if kind == b"jxlc":
            return data[start : start + 32]
        if kind == b"jxlp":
            return data[start + 4 : start + 36]
        if size == 1 and at + 16 <= len(data):
            size = struct.unpack_from(">Q", data, at + 8)[0]
        if size < 8:
            return b""
        at += size
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
