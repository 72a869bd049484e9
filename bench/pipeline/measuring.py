"""Measure contenders one after the other, each in its own process."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...export.checkpoint.reader import Checkpoint
from ...runtime.bundle import CONDITION, Manifest
from ...runtime.terminal import Progress
from ..measure.backends import missing
from ..measure.calls import VARIANTS, MeasureMachine, TimeBundle, TimePipeline, TimeReference
from ..measure.count import count_image
from ..measure.process import CallError, run
from ..metrics import psnr
from ..systems.dossr import bundled_networks, networks
from .comparison import Contender


@dataclass(frozen=True)
class Settings:
    """What all contenders share."""

    device: str
    size: int
    steps: int
    warmup: int
    repetitions: int


Plan = Sequence[tuple[Contender, TimePipeline]]
"""Contenders that are not measured yet, and the calls that measure them."""


def torch_contenders(
    names: Sequence[str], source: Checkpoint, config: Path | None, settings: Settings
) -> Plan:
    """Plan the released procedure in each of these variants of torch."""
    device = "cpu" if settings.device == "cpu" else "cuda"
    gmac = count_image(networks(source.config, settings.steps, settings.size))
    call = TimeReference(
        checkpoint=str(source.path),
        config=str(config or ""),
        need=source.path.stat().st_size,
        **_options(settings),
    )
    return [
        (
            Contender(name, "torch", device, VARIANTS[name].precision, gmac),
            msgspec.structs.replace(call, variant=name, device=device),
        )
        for name in names
    ]


def bundle_contenders(
    manifests: Mapping[Path, Manifest], source: Checkpoint, settings: Settings
) -> Plan:
    """Plan the bundles."""
    has_condition = any(CONDITION in manifest.stages for manifest in manifests.values())
    stages = bundled_networks(source.config, settings.steps, settings.size, has_condition)
    gmac = count_image(stages)
    return [
        (
            Contender(str(path), "bundle", settings.device, manifest.precision, gmac),
            TimeBundle(
                bundle=str(path),
                variant="onnx",
                need=sum(file.size for file in manifest.files.values()),
                **_options(settings),
            ),
        )
        for path, manifest in manifests.items()
    ]


def compare(plan: Plan, progress: Progress) -> Iterator[Contender]:
    """Yield each contender with its figures, or with the reason why it failed.

    Images are compared with that of the first contender that runs.
    """
    base = None
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        image = Path(folder) / "image.npy"
        for contender, call in plan:
            try:
                found = _measured(contender, call, image, progress)
            except CallError as error:
                yield replace(contender, failed=str(error))
                continue
            pixels = np.load(image).astype(np.int64)
            if base is None:
                base = pixels
                yield found
                continue
            largest = int(np.abs(pixels - base).max())
            yield replace(found, largest=largest, psnr=psnr(pixels, base) if largest else None)


def matrix_products(device: str, precisions: set[str], progress: Progress) -> dict[str, float]:
    """Return 1e12 multiply-accumulates per second by precision; empty, with a note, on failure."""
    call = MeasureMachine(device=device, precisions=tuple(sorted(precisions)))
    try:
        with progress.phase("matrix products", len(precisions)) as advance:
            return run(call, advance).tmac_s
    except CallError as error:
        progress.note(f"matrix products not measured: {error}")
        return {}


def _measured(
    contender: Contender, call: TimePipeline, image: Path, progress: Progress
) -> Contender:
    if reason := missing(VARIANTS[call.variant], call.device):
        raise CallError(reason)
    ticks = 2 + call.warmup + 2 * call.repetitions
    with progress.phase(contender.name, ticks) as advance:
        found = run(msgspec.structs.replace(call, image=str(image)), advance)
    return replace(contender, **msgspec.structs.asdict(found))


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "device": settings.device,
        "size": settings.size,
        "steps": settings.steps,
        "warmup": settings.warmup,
        "repetitions": settings.repetitions,
    }
