"""The memory that a run needs, planned before it, and what to do where it does not suffice.

A run holds the weights, the intermediate results of one network on one tile, and the arrays of the whole
image. The second part is counted at export (``StageRecord.activations``); the engines' own overhead on it
and the third part are measured, see docs/tiling.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from .bundle import Manifest, StageRecord
from .errors import OutOfMemoryError
from .hardware import GpuError, find_gpu, free_memory
from .images.padding import padded_size
from .images.sizes import Size
from .images.source import SourceImage
from .options import TILE, SamplingOptions, Tiling
from .sampling import latent_shape
from .tensors import SCALE

TILES = (TILE, 96, 64)
"""Sides of a tile that ``auto`` chooses from, in LR pixels: the training size, then less memory."""

_Result = TypeVar("_Result")
_PROCESS = 200 << 20  # Python, NumPy and the engine's library
_IMAGE_BYTES = 100  # for each pixel that the networks return
_LATENTS = 12  # of a draw, besides one noise for each step: states, predictions, two noises
_COPIES = 2  # of all frames in their final size; resizing and transparency add one each
_ENCODERS: Mapping[str, int] = {"AVIF": 25, "HEIF": 25, "JPEG2000": 50, "JXL": 80, "WEBP": 40}
"""What else an encoder takes, by Pillow's name, for each pixel of the largest frame."""
_ANIMATED_AVIF = 280  # the same, of several frames: the encoder looks many frames ahead
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


def image_bytes(
    manifest: Manifest,
    source: SourceImage,
    sizes: Sequence[Size],
    *,
    kind: str = "",
    depth: int,
    steps: int,
    draws: int = 1,
) -> int:
    """Return what the arrays of an image take at most, from its first frame to the encoded result.

    ``sizes``: width and height of each frame in the result, a file of ``kind`` (Pillow's name) with
    ``depth`` bits a channel. ``draws``: how many are sampled together.

    The results of all frames are held, and besides them the arrays of the networks, for the largest
    frame, or what writing takes. Measured with networks that only fill their outputs, 128 x 128 LR
    pixels, a VAE that shrinks by 2 or by 8, 5 and 50 steps, 1 to 40 draws: 0.45 to 1.0 times what is
    returned here. Writing noise as PNG, TIFF, GIF, JPEG and what _ENCODERS names, 8 and 16 bits, with and
    without transparency, one frame and 20 to 40: 0.6 to 1.0 times; smooth images less.
    """
    frames = [frame.size for frame in source.frames]
    results = sum(width * height for width, height in frames) * SCALE**2 * 3 * depth // 8
    networks = max(
        _shared_bytes(manifest, size) + draws * _draw_bytes(manifest, size, steps)
        for size in set(frames)
    )
    has_alpha = source.has_alpha or not source.is_opaque
    is_resized = list(sizes) != [(SCALE * width, SCALE * height) for width, height in frames]
    channels, copies = 3 + has_alpha, _COPIES + has_alpha + is_resized
    areas = [width * height for width, height in sizes]
    is_animated_avif = kind == "AVIF" and len(areas) > 1
    encoder = _ANIMATED_AVIF if is_animated_avif else _ENCODERS.get(kind, 0)
    written = copies * sum(areas) * channels * depth // 8 + encoder * max(areas)
    return results + max(networks, written)


def is_size_needed(source: SourceImage, sizes: Sequence[Size]) -> bool:
    """Return whether a smaller result would need less: it has several frames, or more than four times their size."""
    widths = zip(source.frames, sizes, strict=True)
    return len(sizes) > 1 or any(size[0] > SCALE * frame.size[0] for frame, size in widths)


def draws_that_fit(manifest: Manifest, size: Size, steps: int, wanted: int) -> int:
    """Return how many of ``wanted`` draws of an LR image take at most half of the free memory; at least 1.

    The other half is left to the networks.
    """
    free = free_memory()
    if free is None:
        return wanted
    left = free // 2 - _shared_bytes(manifest, size)
    return max(1, min(wanted, left // _draw_bytes(manifest, size, steps)))


def shortage(need: int) -> str | None:
    """Return in words that a need exceeds the free memory; None if it does not, or nothing is known."""
    free = free_memory()
    if free is None or need <= free:
        return None
    return f"needs about {in_gigabytes(need)} of memory, and {in_gigabytes(free)} are free"


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


def _shared_bytes(manifest: Manifest, size: Size) -> int:
    """Return what the networks' arrays of one frame take besides its draws."""
    width, height = size
    return math.prod(padded_size(height, width, manifest.size_multiple)) * SCALE**2 * _IMAGE_BYTES


def _draw_bytes(manifest: Manifest, size: Size, steps: int) -> int:
    """Return what one draw of a frame takes: float32 noise of all steps, and latents on the way."""
    width, height = size
    return 4 * math.prod(latent_shape(manifest, height, width)) * (steps + _LATENTS)


def _free(device: str) -> int | None:
    if device.partition(":")[0] in _OVERHEAD:
        return free_memory()
    try:
        return find_gpu().memory  # what other programs hold is not known
    except GpuError:
        return None
