"""Options of an engine build, and their spelling on the command line."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class BuildOptions:
    """Options of an engine build; the defaults give the fastest engine for one size."""

    level: int = 3
    """Builder optimization level, 0 to 5; higher levels search longer."""

    workspace: int | None = None
    """Memory in bytes that one layer may use. None: all memory of the GPU; if it is the machine's
    memory too, a quarter of it and at most 2 GiB."""

    sides: tuple[int, int, int] | None = None
    """Smallest, usual and largest side of the LR images that one engine serves. None: one engine
    per size, which is faster and needs less memory."""

    tf32: bool | None = None
    """Let float32 products use TensorFloat-32, which keeps float32's range and 10 bits of its
    fraction. None: in float16 bundles only."""

    gpus: Literal["this", "same-capability", "ampere-or-newer"] = "this"
    """Which GPUs can open the engine. More GPUs are slower; not available on Jetson."""

    is_stripped: bool = False
    """Leave the weights out of the plan; the bundle supplies them when it is opened."""

    is_version_compatible: bool = False
    """Let newer versions of TensorRT open the engine. Slower; the plan then contains code."""

    is_verified: bool = True
    """Check the engine against the bundle's golden vectors before its first use."""

    rebuild: bool = True
    """Rebuild an engine that does not match, instead of raising an error."""

    falls_back: bool = False
    """Run sizes for which no engine is built on the CPU, instead of building or raising an error."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise ValueError(f"the optimization level must be 0 to 5, got {self.level}")
        if self.workspace is not None and self.workspace < 1:
            raise ValueError(f"the workspace must be above 0 bytes, got {self.workspace}")
        if self.sides is not None and not 0 < self.sides[0] <= self.sides[1] <= self.sides[2]:
            raise ValueError(f"sides must be rising and above 0, got {self.sides}")

    def allows_tf32(self, precision: str) -> bool:
        """Return whether float32 products of a bundle of this precision may use TF32."""
        return precision == "fp16" if self.tf32 is None else self.tf32

    def flags(self, precision: str) -> tuple[str, ...]:
        """Return all that changes the engine of a bundle of this precision, for its key; sorted."""
        return (
            f"gpus={self.gpus}",
            f"level={self.level}",
            f"precision={precision}",
            f"stripped={self.is_stripped}",
            f"tf32={self.allows_tf32(precision)}",
            f"version-compatible={self.is_version_compatible}",
            f"workspace={self.workspace}",
        )


_SWITCHES: dict[str, tuple[str, Any]] = {
    "stripped": ("is_stripped", True),
    "version-compatible": ("is_version_compatible", True),
    "same-capability": ("gpus", "same-capability"),
    "hardware-compatible": ("gpus", "ampere-or-newer"),
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

    Raise ValueError for a setting that is unknown, malformed or given twice.
    """
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    for setting in settings:
        field, value = _parse(setting)
        if field in given:
            raise ValueError(f"each setting can be given once, got {given[field]} and {setting}")
        values[field], given[field] = value, setting
    return BuildOptions(**values)


def _parse(setting: str) -> tuple[str, Any]:
    """Return the field of a setting, and its value; raise ValueError."""
    if setting in _SWITCHES:
        return _SWITCHES[setting]
    name, _, text = setting.partition("=")
    pattern, read = _VALUES.get(name, ("", str))
    if not pattern or not re.fullmatch(pattern, text):
        raise ValueError(f"an engine setting must be {', '.join(SETTINGS)}; got '{setting}'")
    return name, read(text)
