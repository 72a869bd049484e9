"""Optimization profiles: the input shapes that an engine is built for."""

from collections.abc import Mapping, Sequence

from ...bundle import Manifest, StageRecord
from .options import BuildOptions

ENGINES = "engines"
"""The folder of a bundle that holds built engines."""

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""Smallest, usual and largest shape by input name; three equal shapes are a fixed size."""


def stage_shapes(
    manifest: Manifest, stage: StageRecord, height: int, width: int
) -> dict[str, Shape]:
    """Return the shapes of a stage's inputs for one padded LR image."""
    scales = {"lr": (1, 1), "restored": (4, 1)}  # the others are latents
    shapes: dict[str, Shape] = {}
    for spec in stage.inputs:
        if len(spec.shape) == 1:  # network times, one per image
            shapes[spec.name] = (1,)
            continue
        up, down = scales.get(spec.name, (4, manifest.vae_factor))
        channels = spec.shape[1]
        if not isinstance(channels, int):
            raise ValueError(f"input '{spec.name}' must have a fixed number of channels")
        shapes[spec.name] = (1, channels, height * up // down, width * up // down)
    return shapes


def padded(manifest: Manifest, side: int) -> int:
    """Return a side as images of this bundle are padded: the next size multiple."""
    return -(-side // manifest.size_multiple) * manifest.size_multiple


def profile_for(
    manifest: Manifest, stage: StageRecord, shapes: Mapping[str, Shape], options: BuildOptions
) -> Profile:
    """Return the profile for these shapes: that of ``options.sides`` if it contains them."""
    if options.sides is not None:
        sizes = [padded(manifest, side) for side in options.sides]
        low, usual, high = (stage_shapes(manifest, stage, side, side) for side in sizes)
        profile = {name: (low[name], usual[name], high[name]) for name in low}
        if contains(profile, shapes):
            return profile
    return {name: (shape, shape, shape) for name, shape in shapes.items()}


def contains(profile: Profile, shapes: Mapping[str, Shape]) -> bool:
    """Return whether an engine of this profile accepts these shapes."""
    return profile.keys() == shapes.keys() and all(
        len(shape) == len(profile[name][0])
        and all(
            low <= size <= high
            for low, size, high in zip(profile[name][0], shape, profile[name][2], strict=True)
        )
        for name, shape in shapes.items()
    )


def is_fixed(profile: Profile) -> bool:
    """Return whether an engine of this profile accepts one size only."""
    return all(low == high for low, _, high in profile.values())


def engine_name(
    stage: str, library: str, profile: Profile, capabilities: Sequence[str] = ()
) -> str:
    """Return the file name of an engine: stage, shape, GPUs if it is built ahead of time, library."""
    low, _, high = next(iter(profile.values()))
    words = ["x".join(map(str, shape)) for shape in ((low,) if low == high else (low, high))]
    gpus = "-".join(f"sm{capability.replace('.', '')}" for capability in capabilities)
    return ".".join(filter(None, (f"{stage}-{'-to-'.join(words)}", gpus, library, "engine")))


def engine_pattern(stage: str, library: str) -> str:
    """Return the pattern of the names of a stage's engines."""
    return f"{stage}-*.{library}.engine"
