"""Colour profiles: convert pixels to sRGB for the networks, and results back.

Profiles of three curves and a matrix, which nearly all RGB profiles are, and grey ones are computed here,
because Little CMS takes colours of 8 bits only from Pillow. Profiles with tables go through Little CMS.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from ..tensors import Array
from .source import Pixels

_BLOCK = 1 << 18  # pixels converted at a time
_ROUNDING = 3  # of 255: what rounding alone loses
_GRID = 33  # nodes a side of the table that stands for a transform of Little CMS
_IDENTICAL = 1.0  # of 255: profiles that differ from sRGB by less are taken for sRGB
_SPACES = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}
_NAMES = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION

Convert = Callable[[Array], Array]
"""Maps (..., channels) values in [0, 1] to such values."""


class ProfileError(ValueError):
    """A profile that cannot be used; the message says why, to follow "its colour profile"."""


@dataclass(frozen=True)
class Profile:
    """A profile that fits the pixels of its file."""

    data: bytes
    channels: int
    is_srgb: bool
    """Whether conversion changes nothing that can be seen; the pixels then stay as they are."""

    to_srgb: Callable[[Pixels], Pixels]
    """(height, width, channels) to (height, width, 3) of the same dtype; grey to three equal channels."""

    from_srgb: Callable[[Pixels], Pixels] | None
    """The inverse, to RGB or to (height, width, 1) grey; None: the profile has none."""

    def beyond_srgb(self, pixels: Pixels, converted: Pixels) -> Array | None:
        """Return what is lost by conversion to sRGB and back, in levels; None if that is nothing.

        To be added to a result that was converted back, so that colours outside sRGB stay.
        """
        if self.from_srgb is None:
            return None
        lost: Array = pixels.astype(np.int32) - self.from_srgb(converted)
        lost[np.abs(lost) <= _ROUNDING * (np.iinfo(pixels.dtype).max // 255)] = 0
        return lost if lost.any() else None


@lru_cache(maxsize=8)
def open_profile(data: bytes, channels: int) -> Profile:
    """Return the profile of an image with 1 (grey), 3 (RGB) or 4 (CMYK) channels.

    Raise ProfileError if it is damaged or for other channels.
    """
    if not isinstance(data, bytes) or len(data) < 132 or data[36:40] != b"acsp":
        raise ProfileError("is damaged")
    space = data[16:20]
    if space != _SPACES[channels] or data[12:16] not in _CLASSES:
        raise ProfileError(f"is for {_NAMES.get(space, 'other')} colours")
    tags = _tags(data)
    try:
        if channels == 1:
            return _grey(data, tags)
        if channels == 3 and b"A2B0" not in tags and b"rXYZ" in tags:
            return _matrix(data, tags)
        return _table(data, channels)
    except ProfileError:
        raise
    except Exception as error:  # Little CMS and struct raise nearly anything for a damaged one
        raise ProfileError("is damaged") from error


@cache
def srgb() -> bytes:
    """Return an sRGB profile, the same bytes every time."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)  # its time of creation
    data[84:100] = bytes(16)  # its checksum
    return bytes(data)


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """Convert a Lab image of Pillow, whose white is D50."""
    lab = ImageCms.createProfile("LAB", 5000)
    converted = ImageCms.profileToProfile(image, lab, _srgb(), _INTENT, "RGB")
    assert converted is not None
    return converted


def _tags(data: bytes) -> dict[bytes, bytes]:
    """Return the content of each tag; one that reaches beyond the end is left out."""
    count = min(struct.unpack_from(">I", data, 128)[0], 200)
    tags = {}
    for at in range(132, min(132 + 12 * count, len(data) - 11), 12):
        name, offset, size = struct.unpack_from(">4sII", data, at)
        if offset + size <= len(data):
            tags[name] = data[offset : offset + size]
    return tags


def _grey(data: bytes, tags: dict[bytes, bytes]) -> Profile:
    if b"kTRC" not in tags:
        return _table(data, 1)
    curve = _curve(tags[b"kTRC"])
    light = _lightness(curve) if data[20:24] == b"Lab " else curve
    table, grid = _increasing(light)

    def to_srgb(values: Array) -> Array:
        return np.repeat(_encode(np.interp(values, grid, table)), 3, axis=-1)

    def from_srgb(values: Array) -> Array:
        return np.interp(_decode(values.mean(axis=-1, keepdims=True)), table, grid)

    return _computed(data, 1, to_srgb, from_srgb)


def _matrix(data: bytes, tags: dict[bytes, bytes]) -> Profile:
    columns = [_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    curves = [_increasing(_curve(tags[name])) for name in (b"rTRC", b"gTRC", b"bTRC")]
    to_linear = np.linalg.inv(_srgb_matrix()) @ np.stack(columns, axis=1)
    back = np.linalg.inv(to_linear)
    if not np.isfinite(back).all() or np.abs(back).max() > 1e3:
        raise ProfileError("is damaged")

    def to_srgb(values: Array) -> Array:
        linear = [np.interp(values[..., i], grid, table) for i, (table, grid) in enumerate(curves)]
        return _encode(np.stack(linear, axis=-1) @ to_linear.T)

    def from_srgb(values: Array) -> Array:
        linear = _decode(values) @ back.T
        parts = [np.interp(linear[..., i], table, grid) for i, (table, grid) in enumerate(curves)]
        return np.stack(parts, axis=-1)

    return _computed(data, 3, to_srgb, from_srgb)


def _computed(data: bytes, channels: int, to_srgb: Convert, from_srgb: Convert) -> Profile:
    ramp = np.linspace(0, 1, 9)
    colours = np.stack(np.meshgrid(*[ramp] * channels, indexing="ij"), axis=-1)
    same = np.broadcast_to(colours, (*colours.shape[:-1], 3))
    is_srgb = float(np.abs(to_srgb(colours) - same).max()) * 255 < _IDENTICAL
    return Profile(data, channels, is_srgb, _blockwise(to_srgb), _blockwise(from_srgb))


def _table(data: bytes, channels: int) -> Profile:
    """Return a profile that Little CMS computes: directly in 8 bits, by interpolation in 16."""
    own, mode = ImageCms.ImageCmsProfile(io.BytesIO(data)), {1: "L", 3: "RGB", 4: "CMYK"}[channels]
    forth = _transform(own, _srgb(), mode, "RGB")
    back = None
    if channels != 4:
        try:
            back = _transform(_srgb(), own, "RGB", mode)
        except ImageCms.PyCMSError:  # such as that of a scanner, which has one direction only
            back = None
    return Profile(data, channels, False, forth, back)


def _transform(
    source: Any, target: Any, source_mode: str, target_mode: str
) -> Callable[[Pixels], Pixels]:
    transform = ImageCms.buildTransform(source, target, source_mode, target_mode, _INTENT, _FLAGS)

    def apply(pixels: Pixels) -> Pixels:
        image = Image.fromarray(pixels[..., 0] if source_mode == "L" else pixels, source_mode)
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None
        values: Pixels = np.asarray(converted)
        return values[..., None] if target_mode == "L" else values

    def convert(pixels: Pixels) -> Pixels:
        if pixels.dtype == np.uint8:
            return apply(pixels)
        return _blockwise(_interpolated(apply, pixels.shape[-1]))(pixels)

    return convert


def _interpolated(apply: Callable[[Pixels], Pixels], channels: int) -> Convert:
    """Return a transform of 8 bits as a table for floats: a node's error is half a level of 255."""
    levels = np.rint(np.linspace(0, 255, _GRID)).astype(np.uint8)
    nodes = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1)
    table = apply(nodes.reshape(1, -1, channels))[0].astype(np.float64) / 255
    ends = levels.astype(np.float64) / 255

    def convert(values: Array) -> Array:
        position = np.interp(values, ends, np.arange(_GRID))
        low = np.minimum(position.astype(np.int64), _GRID - 2)
        share = position - low
        total: Array = np.zeros((*values.shape[:-1], table.shape[-1]))
        for corner in np.ndindex(*[2] * channels):
            index: Any = 0
            weight: Any = 1.0
            for axis, step in enumerate(corner):
                index = index * _GRID + low[..., axis] + step
                weight = weight * (share[..., axis] if step else 1 - share[..., axis])
            total += weight[..., None] * table[index]
        return total

    return convert


def _blockwise(convert: Convert) -> Callable[[Pixels], Pixels]:
    """Return a conversion of uint8 or uint16 pixels, some rows at a time; it rounds once."""

    def apply(pixels: Pixels) -> Pixels:
        top = np.iinfo(pixels.dtype).max
        step = max(1, _BLOCK // pixels.shape[1])
        blocks = []
        for start in range(0, pixels.shape[0], step):
            values = convert(pixels[start : start + step] / np.float64(top))
            blocks.append(np.rint(values.clip(0, 1) * top).astype(pixels.dtype))
        return np.concatenate(blocks)

    return apply


def _increasing(curve: Array) -> tuple[Array, Array]:
    """Return a curve and its grid so that it can be inverted by interpolation."""
    table = np.maximum.accumulate(curve)
    if not np.isfinite(table).all() or table[-1] <= table[0]:
        raise ProfileError("is damaged")
    return table, np.linspace(0, 1, len(table))


def _curve(tag: bytes) -> Array:
    """Return the linear light at 65536 even steps of a curveType or parametricCurveType tag."""
    x = np.linspace(0, 1, 1 << 16)
    kind, count = tag[:4], struct.unpack_from(">I", tag, 8)[0]
    if kind == b"curv" and count == 0:
        return x
    if kind == b"curv" and count == 1:
        power: Array = x ** (struct.unpack_from(">H", tag, 12)[0] / 256)
        return power
    if kind == b"curv":
        values = np.frombuffer(tag, ">u2", count, 12) / 65535
        sampled: Array = np.interp(x, np.linspace(0, 1, count), values)
        return sampled
    if kind != b"para":
        raise ProfileError("is damaged")
    return _parametric(x, tag)


def _parametric(x: Array, tag: bytes) -> Array:
    """Evaluate the functions 0 to 4 of ICC.1, table 68: a power of g above d, a line below."""
    kind = struct.unpack_from(">H", tag, 8)[0]
    number = (1, 3, 4, 5, 7)[kind]
    given = [value / 65536 for value in struct.unpack_from(f">{number}i", tag, 12)]
    g, a, b, c, d, e, f = given[0], 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    if kind in (1, 2):
        (a, b), c = given[1:3], 0.0
        d, e = -b / a, given[3] if kind == 2 else 0.0
        f = e
    elif kind >= 3:
        a, b, c, d = given[1:5]
        e, f = given[5:7] if kind == 4 else (0.0, 0.0)
    power = np.maximum(a * x + b, 0) ** g + e
    curve: Array = np.where(x >= d, power, c * x + f)
    return curve.clip(0, 1)


def _lightness(curve: Array) -> Array:
    """Turn L* / 100 into relative luminance."""
    f = (curve * 100 + 16) / 116
    luminance: Array = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    return luminance


def _xyz(tag: bytes) -> Array:
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65536


@cache
def _srgb() -> Any:
    return ImageCms.ImageCmsProfile(io.BytesIO(srgb()))


@cache
def _srgb_matrix() -> Array:
    tags = _tags(srgb())
    return np.stack([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], axis=1)


def _encode(linear: Array) -> Array:
    """Return sRGB values of linear ones (IEC 61966-2-1), clipped to its gamut."""
    linear = linear.clip(0, 1)
    encoded: Array = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )
    return encoded


def _decode(encoded: Array) -> Array:
    linear: Array = np.where(
        encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4
    )
    return linear
