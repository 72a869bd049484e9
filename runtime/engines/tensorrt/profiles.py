"""How an engine is built: settings, and the shapes it is built for."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...bundle import Manifest, StageRecord
from .cache import Profile, Shape

_TAKES_TIME = 1  # axes of an input that is no image: the times, one for each image


@dataclass(frozen=True)
class BuildOptions:
    """What may be chosen; the defaults give the fastest engine for one size."""

    level: int = 3
    """Builder optimisation level, 0 to 5: the higher, the longer it searches."""

    workspace: int | None = None
    """Bytes that a layer may use for itself; None: all that the GPU has."""

    sides: tuple[int, int, int] | None = None
    """Smallest, usual and largest side of the LR image that one engine serves. None: an engine
    for each size, which is faster and needs less memory."""

    is_stripped: bool = False
    """Leave the weights out of the plan, and take them from the ``.onnx`` file when it is opened."""

    is_version_compatible: bool = False
    """Let newer TensorRT open it too; slower, and its plan brings code of its own."""

    is_hardware_compatible: bool = False
    """Let any GPU from Ampere on open it; slower, and not on Jetson."""

    is_verified: bool = True
    """Hold the engine against ONNX Runtime on the CPU before it is used; this takes some memory."""

    rebuild: bool = True
    """Build again what does not fit, rather than refuse it."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 5:
            raise ValueError(f"the optimisation level must be 0 to 5, got {self.level}")
        if self.workspace is not None and self.workspace < 1:
            raise ValueError(f"the workspace must be above 0 bytes, got {self.workspace}")
        if self.sides is not None and not 0 < self.sides[0] <= self.sides[1] <= self.sides[2]:
            raise ValueError(f"sides must be rising and above 0, got {self.sides}")

    def flags(self) -> tuple[str, ...]:
        """Everything that changes the engine, for its key."""
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
"""What ``parse_options`` takes."""


def parse_options(settings: Iterable[str]) -> BuildOptions:
    """Options from words such as ``level=5``, ``sides=64:128:256`` or ``stripped``.

    Raises ValueError, in one line, for one that is none.
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


def stage_shapes(
    manifest: Manifest, stage: StageRecord, height: int, width: int
) -> dict[str, Shape]:
    """The shapes of a stage's inputs for one padded LR image of this size."""
    scales = {"lr": (1, 1), "restored": (4, 1)}  # the others are latents
    shapes: dict[str, Shape] = {}
    for spec in stage.inputs:
        if len(spec.shape) == _TAKES_TIME:
            shapes[spec.name] = (1,)
            continue
        up, down = scales.get(spec.name, (4, manifest.vae_factor))
        channels = spec.shape[1]
        if not isinstance(channels, int):
            raise ValueError(f"input '{spec.name}' must have a fixed number of channels")
        shapes[spec.name] = (1, channels, height * up // down, width * up // down)
    return shapes


def profile_for(
    manifest: Manifest, stage: StageRecord, shapes: Mapping[str, Shape], options: BuildOptions
) -> Profile:
    """The profile of the engine that serves these shapes: of the asked sides if they hold them."""
    if options.sides is not None:
        multiple = manifest.size_multiple
        sizes = [-(-side // multiple) * multiple for side in options.sides]
        low, usual, high = (stage_shapes(manifest, stage, side, side) for side in sizes)
        profile = {name: (low[name], usual[name], high[name]) for name in low}
        if holds(profile, shapes):
            return profile
    return {name: (shape, shape, shape) for name, shape in shapes.items()}


def holds(profile: Profile, shapes: Mapping[str, Shape]) -> bool:
    """Whether an engine of this profile takes these shapes."""
    return profile.keys() == shapes.keys() and all(
        len(shape) == len(profile[name][0])
        and all(
            low <= size <= high
            for low, size, high in zip(profile[name][0], shape, profile[name][2], strict=True)
        )
        for name, shape in shapes.items()
    )


def is_fixed(profile: Profile) -> bool:
    """Whether an engine of this profile takes one size only."""
    return all(low == high for low, _, high in profile.values())


def engine_name(stage: str, profile: Profile) -> str:
    """The file name of an engine: stage and shape, so that another size is another file."""
    low, _, high = next(iter(profile.values()))
    words = ["x".join(map(str, shape)) for shape in ((low,) if low == high else (low, high))]
    return f"{stage}-{'-to-'.join(words)}.engine"
