"""Measure contenders one after the other, each in its own processes."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace as changed

from ...export.checkpoint.reader import Checkpoint
from ...runtime.bundle import CONDITION, Manifest
from ...runtime.terminal import Progress
from ..measure.backends import missing
from ..measure.calls import (
    VARIANTS,
    MeasureMachine,
    PipelineTime,
    TimeBundle,
    TimePipeline,
    TimeReference,
)
from ..measure.count import count_image
from ..measure.process import CallError, cache_in, run
from ..metrics import psnr
from ..sides import Side
from ..systems.dossr import STAGE_OF, bundled_networks, networks
from ..systems.system import Network
from .comparison import Contender


@dataclass(frozen=True)
class Settings:
    """What all contenders share."""

    torch_device: str
    size: int
    steps: int
    warmup: int
    repetitions: int

    def options(self) -> dict[str, Any]:
        """Return the fields of a TimePipeline."""
        names = ("size", "steps", "warmup", "repetitions")
        return {name: getattr(self, name) for name in names}


Plan = Sequence[tuple[Contender, TimePipeline]]
"""Contenders that are not measured yet, and the calls that measure them."""


def torch_contenders(
    names: Sequence[str], source: Checkpoint, config: Path | None, settings: Settings
) -> Plan:
    """Plan the released procedure in each of these variants of torch."""
    device = settings.torch_device
    gmac = _gmac(networks(source.config, settings.steps, settings.size))
    call = TimeReference(
        checkpoint=str(source.path),
        config=str(config or ""),
        need=source.path.stat().st_size,
        device=device,
        **settings.options(),
    )
    return [
        (
            Contender(name, "torch", name, device, VARIANTS[name].precision, gmac),
            changed(call, variant=name),
        )
        for name in names
    ]


def bundle_contenders(
    manifests: Mapping[Path, Manifest],
    sides: Sequence[Side],
    source: Checkpoint,
    settings: Settings,
) -> Plan:
    """Plan each bundle on each side."""
    has_condition = any(CONDITION in manifest.stages for manifest in manifests.values())
    stages = bundled_networks(source.config, settings.steps, settings.size, has_condition)
    gmac = _gmac(stages)
    return [
        (
            Contender(
                name=f"{path}, {side.name}",
                kind="bundle",
                source=str(path),
                device=side.device,
                precision=side.precision or manifest.precision,
                stage_gmac=gmac,
                weights=manifest.precision,
            ),
            TimeBundle(
                bundle=str(path),
                variant="onnx",
                need=sum(file.size for file in manifest.files.values()),
                device=side.device,
                precision=side.precision or "auto",
                **settings.options(),
            ),
        )
        for path, manifest in manifests.items()
        for side in sides
    ]


def compare(plan: Plan, progress: Progress) -> Iterator[Contender]:
    """Yield each contender with its figures, or with the reason why it failed.

    Images are compared with that of the first contender that runs.
    """
    base = None
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        image = Path(folder) / "image.npy"
        for number, (contender, call) in enumerate(plan, 1):
            label = f"[{number}/{len(plan)}] {contender.name}"
            try:
                found = _measured(contender, changed(call, image=str(image)), label, progress)
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


def precisions_of(contenders: Iterable[Contender]) -> set[str]:
    """Return the precisions whose matrix product is the reference of a contender."""
    found = {precision for each in contenders for precision in each.stage_precisions.values()}
    return found | {"fp32"}


def _measured(
    contender: Contender, call: TimePipeline, label: str, progress: Progress
) -> Contender:
    """Measure in a process that finds empty caches, then start a second one that finds them full."""
    if reason := missing(VARIANTS[call.variant], call.device):
        raise CallError(reason)
    again = changed(call, image="", warmup=0, repetitions=0)
    ticks = _ticks(call) + _ticks(again)
    with (
        tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder,
        progress.phase(label, ticks) as advance,
    ):
        found = run(call, advance, cache_in(Path(folder)))
        warm = run(again, advance, cache_in(Path(folder)))
    return _with_figures(contender, found, warm)


def _with_figures(contender: Contender, found: PipelineTime, warm: PipelineTime) -> Contender:
    figures = msgspec.to_builtins(found)
    return replace(
        contender,
        cold_start=figures.pop("start"),
        warm_start=msgspec.to_builtins(warm.start),
        warm_memory_bytes=warm.memory_bytes,
        stage_precisions=figures.pop("precisions"),
        **figures,
    )


def _ticks(call: TimePipeline) -> int:
    return 2 + call.warmup + 2 * call.repetitions


def _gmac(found: Iterable[Network]) -> dict[str, float]:
    """Return 1e9 multiply-accumulates per image, by stage."""
    stages: dict[str, float] = {}
    for network in found:
        stage = STAGE_OF[network.name]
        stages[stage] = stages.get(stage, 0.0) + count_image([network])
    return stages
