"""The size of a result: four times its source, or what was asked for."""

import math
from dataclasses import dataclass
from fractions import Fraction

from ..tensors import SCALE

Size = tuple[int, int]
"""Width and height in pixels."""

_BY_SIDES = {"longest": max, "shortest": min}
_BY_AXIS = {"width": 0, "height": 1}


@dataclass(frozen=True)
class TargetSize:
    """The size asked for; at most one field is given, none means four times.

    All keep the ratio of the sides up to rounding. The networks enlarge four times; Lanczos does the
    rest. Raises ValueError for a value out of range.
    """

    scale: float | None = None
    """Factor above 0."""

    longest: int | None = None
    """The longer side, in pixels."""

    shortest: int | None = None
    width: int | None = None
    height: int | None = None
    fit: Size | None = None
    """The largest size within this width and height."""

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) > 1:
            names = " and ".join(f"--{name}" for name in given)
            raise ValueError(f"at most one size can be asked for, got {names}; give one")
        for name, value in given.items():
            if name == "scale":
                if not (math.isfinite(value) and value > 0):
                    raise ValueError(f"--scale must be a number above 0, got {value:g}")
            elif min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"--{name} must be 1 or more, got {value}")

    def of(self, source: Size) -> Size:
        """Return the size of the result for a source; no side is below 1 pixel."""
        factor = self.factor(source)
        return max(1, round(source[0] * factor)), max(1, round(source[1] * factor))

    def factor(self, source: Size) -> Fraction:
        """Return the exact factor by which a source of this size is enlarged."""
        if self.fit:
            return min(Fraction(self.fit[0], source[0]), Fraction(self.fit[1], source[1]))
        for name, choose in _BY_SIDES.items():
            if side := getattr(self, name):
                return Fraction(side, choose(source))
        for name, axis in _BY_AXIS.items():
            if side := getattr(self, name):
                return Fraction(side, source[axis])
        return Fraction(SCALE if self.scale is None else self.scale)

    def is_beyond_networks(self, source: Size) -> bool:
        """Return whether the result is larger than four times, so that Lanczos enlarges it further."""
        return self.factor(source) > SCALE


def parse_fit(text: str) -> Size:
    """Return the width and height of ``WxH``; raise ValueError if it is spelled otherwise."""
    width, found, height = text.lower().replace("×", "x").partition("x")
    if not (found and width.strip().isdecimal() and height.strip().isdecimal()):
        raise ValueError(f"--fit must be WIDTHxHEIGHT in pixels, such as 3840x2160, got '{text}'")
    return int(width), int(height)
