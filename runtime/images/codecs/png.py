"""Write PNG and APNG of 8 or 16 bits a channel; Pillow writes 16 for grey only, and merges frames."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from ...tensors import Array

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
_CHUNK = 1 << 20  # bytes of an IDAT
_ROWS = 64
_LEVEL = 6
_STRUCTURE = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"sBIT")
)
_DISPOSALS = {2: 1, 3: 2}  # of GIF's numbers

Chunk = tuple[bytes, bytes]
"""Name and content."""


def ancillary(png: bytes) -> list[Chunk]:
    """Return the chunks of a PNG that describe the image: profile, resolution, texts, EXIF data."""
    at, chunks = len(_SIGNATURE), []
    while at + 8 <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        if name not in _STRUCTURE:
            chunks.append((name, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def encode_png(
    frames: Sequence[Array],
    described: Sequence[Chunk],
    durations: Sequence[float],
    disposals: Sequence[int],
    plays: int,
) -> bytes:
    """Return a PNG, animated if there are several frames.

    ``frames``: uint8 or uint16 (height, width, channels), all alike. ``durations``: milliseconds.
    ``disposals``: GIF's numbers. ``plays``: how often it is shown, 0 for ever.
    """
    height, width, channels = frames[0].shape
    header = struct.pack(
        ">IIBBBBB", width, height, 8 * frames[0].itemsize, _COLOUR_TYPES[channels], 0, 0, 0
    )
    pieces = [_SIGNATURE, *_chunk(b"IHDR", header)]
    for name, content in described:
        pieces += _chunk(name, content)
    animated, sequence = len(frames) > 1, 0
    if animated:
        pieces += _chunk(b"acTL", struct.pack(">II", len(frames), plays))
    for number, frame in enumerate(frames):
        if animated:
            control = (
                sequence,
                width,
                height,
                0,
                0,
                *_delay(durations[number]),
                _DISPOSALS.get(disposals[number], 0),
                0,
            )
            pieces += _chunk(b"fcTL", struct.pack(">5I2HBB", *control))
            sequence += 1
        for data in _compressed(frame):
            if number == 0:
                pieces += _chunk(b"IDAT", data)
            else:
                pieces += _chunk(b"fdAT", struct.pack(">I", sequence) + data)
                sequence += 1
    pieces += _chunk(b"IEND", b"")
    return b"".join(pieces)


def _chunk(name: bytes, content: bytes) -> list[bytes]:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return [struct.pack(">I", len(content)), name, content, struct.pack(">I", checksum)]


def _delay(milliseconds: float) -> tuple[int, int]:
    """Return a duration as numerator and denominator of seconds, of 16 bits each."""
    seconds = Fraction(max(milliseconds, 0) / 1000).limit_denominator(1000)
    if seconds.numerator > 65535:
        return min(round(milliseconds / 1000), 65535), 1
    return seconds.numerator, seconds.denominator


def _compressed(frame: Array) -> Iterator[bytes]:
    """Yield the image data in parts, filtered some rows at a time."""
    pixel = frame.itemsize * frame.shape[2]
    stream = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    above, held = np.zeros((1, frame.shape[1] * pixel), np.uint8), b""
    for start in range(0, frame.shape[0], _ROWS):
        rows = np.ascontiguousarray(frame[start : start + _ROWS])
        lines = rows.astype(rows.dtype.newbyteorder(">")).view(np.uint8).reshape(len(rows), -1)
        held += stream.compress(_filtered(lines, above, pixel).tobytes())
        above = lines[-1:]
        if len(held) >= _CHUNK:
            yield held
            held = b""
    yield held + stream.flush()


def _filtered(lines: Array, above: Array, pixel: int) -> Array:
    """Return each line behind the number of its filter: of none, Sub, Up and Paeth, the smallest sum."""
    up = np.concatenate([above, lines[:-1]])
    left, corner = _shifted(lines, pixel), _shifted(up, pixel)
    options = np.stack([lines, lines - left, lines - up, lines - _paeth(left, up, corner)])
    sums = np.abs(options.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = sums.argmin(axis=0)
    result = np.empty((len(lines), lines.shape[1] + 1), np.uint8)
    result[:, 0] = np.array((0, 1, 2, 4), np.uint8)[best]
    result[:, 1:] = options[best, np.arange(len(lines))]
    return result


def _shifted(lines: Array, pixel: int) -> Array:
    shifted = np.zeros_like(lines)
    shifted[:, pixel:] = lines[:, :-pixel]
    return shifted


def _paeth(left: Array, up: Array, corner: Array) -> Array:
    """Return of three neighbours the one nearest to left + up - corner."""
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest: Array = np.where(
        (to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner)
    )
    return nearest
