"""Options of an engine build, and their spelling on the command line."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BuildOptions:
    """Options of an engine build; the defaults give the fastest engine for one size."""

    level: int = 3
    """Builder optimization level, 0 to 5; higher levels search longer."""

    workspace: int | None = None
    """Scratch memory of one layer in bytes; None: all memory of the GPU."""

    sides: tuple[int, int, int] | None = None
    """Smallest, usual and largest side of the LR images that one engine serves. None: one engine
    per size, which is faster and needs less memory."""

    is_stripped: bool = False
    """Leave the weights out of the plan; the ``.onnx`` file supplies them when it is opened."""

    is_version_compatible: bool = False
    """Let newer versions of TensorRT open the engine. Slower; the plan then contains code."""

    is_hardware_compatible: bool = False
    """Let any GPU from Ampere on open the engine. Slower; not available on Jetson."""

    is_verified: bool = True
    """Compare the engine with ONNX Runtime on the CPU before its first use. Needs some memory."""

    rebuild: bool = True
    """Rebuild an engine that does not match, instead of raising an error."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise ValueError(f"the optimization level must be 0 to 5, got {self.level}")
        if self.workspace is not None and self.workspace < 1:
            raise ValueError(f"the workspace must be above 0 bytes, got {self.workspace}")
        if self.sides is not None and not 0 < self.sides[0] <= self.sides[1] <= self.sides[2]:
            raise ValueError(f"sides must be rising and above 0, got {self.sides}")

    def flags(self) -> tuple[str, ...]:
        """Return every option that changes the engine, for its key."""
        return (
            f"hardware-compatible={self.is_hardware_compatible}",
            f"level={self.level}",
            f"stripped={self.is_stripped}",
            f"verified={self.is_verified}",
            f"version-compatible={self.is_version_compatible}",
            f"workspace={self.workspace}",
        )


_SWITCHES = {
    "stripped": ("is_stripped", True),
    "version-compatible": ("is_version_compatible", True),
    "hardware-compatible": ("is_hardware_compatible", True),
    "unverified": ("is_verified", False),
    "no-rebuild": ("rebuild", False),
}
_VALUES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "level": (r"\d", int),
    "workspace": (r"\d+(?:\.\d+)?", lambda text: int(float(text) * 2**30)),
    "sides": (r"\d+:\d+:\d+", lambda text: tuple(map(int, text.split(":")))),
}
SETTINGS = ("level=0..5", "workspace=GIB", "sides=MIN:USUAL:MAX", *_SWITCHES)
"""The settings that ``parse_options`` accepts."""


def parse_options(settings: Iterable[str]) -> BuildOptions:
    """Parse settings such as ``level=5``, ``sides=64:128:256`` or ``stripped``.

    Raise ValueError for an unknown or malformed setting.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        pattern, read = _VALUES.get(name, ("", str))
        if setting in _SWITCHES:
            field, value = _SWITCHES[setting]
            values[field] = value
        elif pattern and re.fullmatch(pattern, text):
            values[name] = read(text)
        else:
            raise ValueError(f"an engine setting must be {', '.join(SETTINGS)}; got '{setting}'")
    return BuildOptions(**values)
