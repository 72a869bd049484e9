"""The memory that a run needs, planned before it, and what to do where it does not suffice.

A run holds the weights, the intermediate results of one network on one tile, and a few arrays of the whole
image. The second part is counted at export (``StageRecord.activations``); the engines' own overhead on it
and the third part are measured, see docs/images.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from .bundle import Manifest, StageRecord
from .errors import OutOfMemoryError
from .hardware import GpuError, find_gpu, free_memory
from .options import TILE, SamplingOptions, Tiling
from .tensors import SCALE

TILES = (TILE, 96, 64)
"""Sides of a tile that ``auto`` chooses from, in LR pixels: the training size, then less memory."""

_Result = TypeVar("_Result")
_PROCESS = 200 << 20  # Python, NumPy and the engine's library
_IMAGE_BYTES = 100  # for each pixel of the result
_OVERHEAD: Mapping[str, float] = {"cpu": 1.6, "openvino": 1.1}  # on the counted activations
_ON_GPU = 1.5  # the same, not measured
_WIDENED = 2  # ONNX Runtime's CPU keeps weights stored in float16 as float32


@dataclass(frozen=True)
class MemoryNeed:
    """What a run holds at once, in bytes."""

    weights: int
    activations: int
    """Of the network and the tile that need most."""

    @property
    def total(self) -> int:
        """Everything but the image."""
        return _PROCESS + self.weights + self.activations

    def with_image(self, height: int, width: int) -> int:
        """Return the need for an image of this size in LR pixels."""
        return self.total + image_bytes(height, width)


@dataclass(frozen=True)
class MemoryPlan:
    """Tiles that fit into the free memory, or the smallest if none do."""

    tiling: Tiling
    need: MemoryNeed
    free: int | None
    """In bytes; None if unknown."""

    @property
    def fits(self) -> bool:
        """Whether the need is below what is free, as far as is known."""
        return self.free is None or self.need.total <= self.free


def image_bytes(height: int, width: int) -> int:
    """Return what the arrays of a whole image take, for its size in LR pixels."""
    return height * width * SCALE**2 * _IMAGE_BYTES


def memory_need(
    manifest: Manifest, device: str, tiling: Tiling, *, low_memory: bool = False
) -> MemoryNeed | None:
    """Return what tiles of this size need; None for a bundle that does not tell, or without tiles."""
    kind = device.partition(":")[0]
    records = manifest.stages.values()
    if not tiling.tile or not all(len(record.activations) == 2 for record in records):
        return None
    is_half = manifest.precision == "fp16"
    widened = _WIDENED if kind == "cpu" and is_half else 1
    weights = [_weight_bytes(manifest, record) * widened for record in records]
    overhead = _OVERHEAD.get(kind, _ON_GPU / 2 if is_half else _ON_GPU)
    activations = max(
        _activation_bytes(record, tiling.tile**2) * (tiling.batch if name == "denoiser" else 1)
        for name, record in manifest.stages.items()
    )
    return MemoryNeed(max(weights) if low_memory else sum(weights), int(activations * overhead))


def plan_memory(
    manifest: Manifest, device: str, tiling: Tiling, *, low_memory: bool = False
) -> MemoryPlan | None:
    """Return the largest of TILES, and the largest batch up to the given one, that fit.

    None where the need is not known. Raise ValueError if the bundle does not support these tiles.
    """
    plan: MemoryPlan | None = None
    free = _free(device)
    wanted: Tiling | None = tiling
    while wanted is not None:
        need = memory_need(manifest, device, wanted, low_memory=low_memory)
        if need is None:
            return None
        plan = MemoryPlan(wanted, need, free)
        if plan.fits:
            break
        wanted = smaller(wanted, manifest.size_multiple)
    return plan


def smaller(tiling: Tiling, multiple: int) -> Tiling | None:
    """Return tiling that needs less memory: half the batch, then a smaller tile; None if there is none."""
    if tiling.batch > 1:
        return replace(tiling, batch=tiling.batch // 2)
    for side in TILES:
        less = replace(tiling, tile=side)
        if (not tiling.tile or side < tiling.tile) and _is_valid(less, multiple):
            return less
    return None


def run_with_less(
    run: Callable[[SamplingOptions], _Result],
    options: SamplingOptions,
    multiple: int,
    log: Callable[[str], None],
) -> tuple[_Result, SamplingOptions]:
    """Return ``run(options)`` and its options; where memory runs out, try again with less tiling.

    ``log`` is told each time. Raise OutOfMemoryError or MemoryError if the smallest tiles are too large.
    """
    while True:
        try:
            return run(options), options
        except (OutOfMemoryError, MemoryError):
            less = smaller(options.tiling, multiple)
            if less is None:
                raise
            options = replace(options, tiling=less)
        log(f"memory ran out; going on with {describe(less)}")


def describe(tiling: Tiling) -> str:
    """Return tiles in words, such as ``tiles of 96 in batches of 2``."""
    tiles = f"tiles of {tiling.tile}" if tiling.tile else "no tiles"
    return tiles if tiling.batch == 1 else f"{tiles} in batches of {tiling.batch}"


def in_gigabytes(size: int) -> str:
    """Return a size in GB with one decimal."""
    return f"{size / 1e9:.1f} GB"


def _is_valid(tiling: Tiling, multiple: int) -> bool:
    try:
        tiling.check(multiple)
    except ValueError:
        return False
    return True


def _weight_bytes(manifest: Manifest, record: StageRecord) -> int:
    return manifest.files[record.weights].size if record.weights else 0


def _activation_bytes(record: StageRecord, pixels: int) -> float:
    """Return a * pixels + c * pixels^2 through the two counted sizes; attention's scores are quadratic."""
    small, large = ((entry.side**2, entry.bytes) for entry in record.activations)
    quadratic = (large[1] / large[0] - small[1] / small[0]) / (large[0] - small[0])
    linear = small[1] / small[0] - quadratic * small[0]
    return linear * pixels + quadratic * pixels**2


def _free(device: str) -> int | None:
    if device.partition(":")[0] in _OVERHEAD:
        return free_memory()
    try:
        return find_gpu().memory  # what other programs hold is not known
    except GpuError:
        return None
