"""CMYK to sRGB: by the file's profile, one of the system's, or a model of print."""

import sys
from functools import cache
from pathlib import Path

import numpy as np

from .profiles import Profile, ProfileError, open_profile
from .source import Pixels

_SYSTEM = {
    "linux": (
        "/usr/share/color/icc/ghostscript/default_cmyk.icc",
        "/usr/share/color/icc/ghostscript/ps_cmyk.icc",
        "/usr/share/color/icc/colord/FOGRA39L_coated.icc",
        "/usr/share/color/icc/colord/SWOP2006_Coated3v2.icc",
    ),
    "darwin": ("/System/Library/ColorSync/Profiles/Generic CMYK Profile.icc",),
    "win32": ("C:/Windows/System32/spool/drivers/color/RSWOP.icm",),
}
_PAPER, _BLACK = 255.0, 35.0
_SOLID = np.array(
    [[[[255, 255, 255], [255, 242, 0]], [[236, 0, 140], [237, 28, 36]]],
     [[[0, 174, 239], [0, 166, 81]], [[46, 49, 146], [54, 54, 57]]]],
    np.float32,
)  # fmt: skip
"""sRGB of paper and of full cyan, magenta and yellow in all combinations, on coated paper."""


def cmyk_to_srgb(inks: Pixels, profile: Profile | None) -> tuple[Pixels, str]:
    """Return sRGB pixels of uint8 (height, width, 4) ink, 255 full, and a note that says how."""
    if profile is not None:
        return profile.to_srgb(inks), "CMYK, converted by its profile; the result is RGB"
    found = _system_profile()
    if found is not None:
        name, standard = found
        return standard.to_srgb(
            inks
        ), f"CMYK without a profile, converted by {name}; the result is RGB"
    return _printed(inks), "CMYK without a profile, converted as coated print; the result is RGB"


@cache
def _system_profile() -> tuple[str, Profile] | None:
    for name in _SYSTEM.get(sys.platform, ()):
        try:
            return Path(name).name, open_profile(Path(name).read_bytes(), 4)
        except (OSError, ProfileError):
            continue
    return None


def _printed(inks: Pixels) -> Pixels:
    """Average the colours of the eight overprints by the area each covers; darken by black.

    Neugebauer's model (1937) with Demichel's areas, in sRGB values, whose curve stands for the growth
    of dots (Yule and Nielsen 1951).
    """
    result = np.empty((*inks.shape[:2], 3), np.uint8)
    for start in range(0, inks.shape[0], 64):
        rows = slice(start, start + 64)
        c, m, y, k = np.moveaxis(inks[rows].astype(np.float32) / 255, -1, 0)
        areas = [np.stack([1 - ink, ink], axis=-1) for ink in (c, m, y)]
        colour = np.einsum("hwi,hwj,hwk,ijkc->hwc", *areas, _SOLID)
        result[rows] = np.rint(colour * (1 - k[..., None] * (1 - _BLACK / _PAPER)))
    return result
