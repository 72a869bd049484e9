"""Damage to bytes, the same for the same random numbers."""

import random
import struct
import zlib
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes], bytes]


def mutated(rng: random.Random, data: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    """Return the data with one to four mutations, mostly one."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(mutations)(rng, data)
    return data


def flip_bits(rng: random.Random, data: bytes) -> bytes:
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if new:
            new[rng.randrange(len(new))] ^= 1 << rng.randrange(8)
    return bytes(new)


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if new:
            new[rng.randrange(len(new))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(new)


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def remove(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 200))) + data[at:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice((1, 1, 3)) + data[end:]


def swap(rng: random.Random, data: bytes) -> bytes:
    """Swap two neighbouring spans."""
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def fill(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + bytes([rng.choice((0, 0xFF, 0x20))]) * (end - start) + data[end:]


def change_number(rng: random.Random, data: bytes) -> bytes:
    """Put an extreme number of 2 or 4 bytes somewhere, most often near the start."""
    order, size = rng.choice("<>"), rng.choice((2, 4))
    if len(data) <= size:
        return data
    limit = len(data) - size if rng.random() < 0.4 else min(len(data) - size, 80)
    at = rng.randrange(limit + 1)
    top = 1 << 8 * size
    value = rng.choice((0, 1, 2, top - 1, top // 2, top // 2 - 1, top // 4, rng.randrange(top)))
    return data[:at] + struct.pack(order + "HI"[size // 4], value) + data[at + size :]


def change_chunks(rng: random.Random, data: bytes) -> bytes:
    """Swap, repeat, remove or damage a part of a PNG, RIFF or ISO media file; others lose a span."""
    head, parts, tail = _chunks(data)
    if len(parts) < 2:
        return rng.choice((swap, remove))(rng, data)
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
    what = rng.randrange(5)
    if what == 0:
        parts[i], parts[j] = parts[j], parts[i]
    elif what == 1:
        parts.insert(i, parts[j])
    elif what == 2:
        del parts[i]
    elif what == 3:
        parts[i] = _with_crc(head, change_bytes(rng, parts[i]))
    else:
        at = 4 if head[:4] == b"RIFF" else 0
        value = rng.choice((0, 1, 7, 8, 0xFFFF, 1 << 31, (1 << 32) - 1, 0xFF000000 | len(parts[i])))
        number = struct.pack("<I" if at else ">I", value)
        parts[i] = parts[i][:at] + number + parts[i][at + 4 :]
    return head + b"".join(parts) + tail


def change_tags(rng: random.Random, data: bytes) -> bytes:
    """Change tag, type, count or value of one entry of a TIFF file's first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return change_number(rng, data)
    start = struct.unpack_from(order + "I", data, 4)[0]
    if start + 2 > len(data):
        return change_number(rng, data)
    count = struct.unpack_from(order + "H", data, start)[0]
    entry = start + 2 + 12 * rng.randrange(max(1, count))
    field, size = rng.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I")))
    if entry + 12 > len(data):
        return change_number(rng, data)
    values = {
        0: (34675, 282, 283, 296, 274, 700, 34665, 258, 259, 277, 320, rng.randrange(1 << 16)),
        2: (*range(14), rng.randrange(1 << 16)),
        4: (0, 1, 2, 3, 100, 1 << 31, (1 << 32) - 1),
        8: (0, 1, 2, 3, 8, 16, 0xFFFF, 1 << 31, (1 << 32) - 1, rng.randrange(len(data))),
    }
    new = bytearray(data)
    struct.pack_into(order + size, new, entry + field, rng.choice(values[field]))
    return bytes(new)


ANY = (flip_bits, change_bytes, cut, remove, insert, repeat, swap, fill, change_number)
IMAGES = (*ANY, change_number, change_chunks, change_chunks, change_tags, change_tags)


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    length = rng.choice((1, 2, 4, 32, max(1, len(data) // 4)))
    return start, min(len(data), start + length)


def _chunks(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Take a file apart: what is before its chunks, the chunks, what is behind them."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        at, length_at, order, extra = 8, 0, ">I", 12
    elif data[:4] == b"RIFF":
        at, length_at, order, extra = 12, 4, "<I", 8
    elif data[4:8] in (b"ftyp", b"jP  "):
        at, length_at, order, extra = 0, 0, ">I", 0
    else:
        return data, [], b""
    head, parts = data[:at], []
    while at + 8 <= len(data):
        length = struct.unpack_from(order, data, at + length_at)[0] + extra
        length += length % 2 if head[:4] == b"RIFF" else 0
        if length < 8 or at + length > len(data):
            break
        parts.append(data[at : at + length])
        at += length
    return head, parts, data[at:]


def _with_crc(head: bytes, chunk: bytes) -> bytes:
    """Correct the checksum of a PNG chunk, so that its content is decoded."""
    if head[1:4] != b"PNG" or len(chunk) < 12:
        return chunk
    return chunk[:-4] + struct.pack(">I", zlib.crc32(chunk[4:-4]))
