"""Colour spaces that a file names instead of including a profile; each becomes a profile.

EXIF data names Adobe RGB, as cameras do; a PNG gives a gamma and primaries; HEIC, AVIF and newer PNG give
numbers of ITU-T H.273.
"""

import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ...tensors import Array

_D50 = (0.9642, 1.0, 0.8249)
_D65 = (0.3127, 0.3290)
_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
_BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
_PRIMARIES = {9: ("BT.2020", _BT2020), 12: ("Display P3", _P3)}
"""By their number in H.273; the others are near sRGB's."""

_LIKE_SRGB, _CURVES = (1, 5, 6, 7), (1, 6, 13, 14, 15)
"""Numbers of primaries and of transfer functions that are taken for sRGB's."""

_HDR = {16: "PQ", 18: "HLG"}  # transfer functions that no profile holds
_ADOBE_GAMMA = 563 / 256
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_EXIF_IFD, _INTEROP_IFD, _COLOR_SPACE = 0x8769, 0xA005, 0xA001

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
"""x and y of red, green and blue."""


def named_profile(image: Image.Image, channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the profile that a file without one names, and notes; None if that is sRGB or unknown.

    ``channels``: 1 for grey, 3 for RGB.
    """
    if numbers := image.info.get("nclx_profile"):
        return _of_numbers(numbers, channels)
    if image.format == "PNG":
        return _of_png(image.info, channels), ()
    if channels == 3 and _is_adobe_rgb(image):
        return profile_of("Adobe RGB (1998)", _ADOBE, (_ADOBE_GAMMA,)), ()
    return None, ()


def nclx(data: bytes) -> dict[str, int] | None:
    """Return the numbers of H.273 in an AVIF file, under the names of HEIC's plugin."""
    at = data.find(b"colrnclx")
    if at < 0 or at + 12 > len(data):
        return None
    primaries, transfer = struct.unpack_from(">HH", data, at + 8)
    return {"color_primaries": primaries, "transfer_characteristics": transfer}


def cicp(file: BinaryIO) -> dict[str, int] | None:
    """Return the numbers of H.273 before the pixels of a PNG, under the same names.

    None for those that are not used here, so that a profile counts.
    """
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"cICP":
            primaries, transfer = file.read(2).ljust(2, b"\2")
            if primaries in (*_LIKE_SRGB, *_PRIMARIES) and transfer in (*_CURVES, *_HDR):
                return {"color_primaries": primaries, "transfer_characteristics": transfer}
            return None
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return None


def profile_of(
    name: str, primaries: Primaries, curve: tuple[float, ...], white: tuple[float, float] = _D65
) -> bytes:
    """Return an ICC profile of three primaries and a curve (one value: a gamma; five: type 3)."""
    columns = _columns(primaries, white)
    tags = {b"rgb"[i : i + 1] + b"XYZ": _xyz(columns[:, i]) for i in range(3)}
    tags |= {name: _curve(curve) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _icc(name, b"RGB ", tags)


def grey_profile_of(name: str, gamma: float) -> bytes:
    """Return an ICC profile of grey levels with a gamma."""
    return _icc(name, b"GRAY", {b"kTRC": _curve((gamma,))})


def _of_png(info: dict[Any, Any], channels: int) -> bytes | None:
    """Browsers use gAMA and cHRM where there is neither a profile nor an sRGB chunk."""
    gamma, chromaticity = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not isinstance(gamma, float) or not 0.2 <= gamma <= 2:
        return None
    primaries, white = _SRGB, _D65
    if (
        isinstance(chromaticity, tuple)
        and len(chromaticity) == 8
        and all(0 < v < 1 for v in chromaticity)
    ):
        pairs = [(chromaticity[i], chromaticity[i + 1]) for i in range(0, 8, 2)]
        white, primaries = pairs[0], (pairs[1], pairs[2], pairs[3])
    if abs(gamma - 0.45455) < 0.005 and np.abs(np.subtract(primaries, _SRGB)).max() < 0.005:
        return None
    name = f"gamma {1 / gamma:.2f}"
    if channels == 1:
        return grey_profile_of(name, 1 / gamma)
    return profile_of(name, primaries, (1 / gamma,), white)


def _of_numbers(numbers: dict[str, Any], channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    transfer = _HDR.get(int(numbers.get("transfer_characteristics", 2)))
    if transfer:
        return None, (f"its HDR levels ({transfer}) are used as they are; it may look pale",)
    found = _PRIMARIES.get(int(numbers.get("color_primaries", 2)))
    return (profile_of(*found, _SRGB_CURVE) if found and channels == 3 else None), ()


def _is_adobe_rgb(image: Image.Image) -> bool:
    try:
        exif = image.getexif()
        space = exif.get_ifd(_EXIF_IFD).get(_COLOR_SPACE)
        index = exif.get_ifd(_INTEROP_IFD).get(1) if space == 65535 else None
    except Exception:  # damaged metadata
        return False
    return space == 2 or str(index).startswith("R03")


def _columns(primaries: Primaries, white: tuple[float, float]) -> Array:
    """Return XYZ of the primaries as columns, adapted to D50 (Bradford)."""
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in (*primaries, white)]).T
    mixed = xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3])
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ xyz[:, 3])
    adapted: Array = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ mixed
    return adapted


def _xyz(values: Any) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _curve(values: tuple[float, ...]) -> bytes:
    kind = 0 if len(values) == 1 else 3
    numbers = (round(value * 65536) for value in values)
    return b"para" + struct.pack(f">4xHxx{len(values)}i", kind, *numbers)


def _icc(name: str, space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a display profile, version 4, of tags; with the texts that the standard asks for."""
    text = name.encode("utf-16-be")
    words = b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    tags = {b"desc": words, b"cprt": words, b"wtpt": _xyz(_D50), **tags}
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 132 + 12 * len(tags) + len(body)
    date = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    head = struct.pack(">I4xI4s4s4s12s4s", size, 0x04300000, b"mntr", space, b"XYZ ", date, b"acsp")
    white = struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return (head.ljust(68, b"\0") + white).ljust(128, b"\0") + table + body
