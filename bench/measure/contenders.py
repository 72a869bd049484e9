"""Time the contenders of ``dossr-bench pipeline``: what all share, and bundles in the runtime.

Imports no torch: a bundle's start and memory are those that its user gets.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from ...runtime.bundle import check_golden, open_bundle
from ...runtime.bundle.golden import BOUNDS, largest_image
from ...runtime.engines.device import Device
from ...runtime.engines.engine import from_host
from ...runtime.engines.tensorrt.library import LIBRARIES
from ...runtime.pipeline import Pipeline, load_pipeline
from ...runtime.sampling import draw_noise
from ...runtime.tensors import Image
from ...runtime.terminal import Advance
from .calls import PipelineTime, StartTime, Tick, TimeBundle, TimePipeline, runs_on_host
from .memory import MappedPeak, process_peak

SEED = 0

Stages = dict[str, float]
"""Seconds of one image, by stage."""

STAGE_THAT_ENDS_WITH = {
    "restored": "restorer",
    "hint": "encoder",
    "x_lr": "solver",
    "x": "solver",
    "eps": "denoiser",
    "x0": "solver",
    "latent": "solver",
    "decoded": "decoder",
    "image": "colour fix",
}
"""The stage of a bundle that ends when its observer receives this array. The upload ends with the
first progress call, the download with the returned image."""


class Loaded(Protocol):
    """A contender whose networks are loaded. Each image advances the progress by 1."""

    def image(self) -> Image:
        """Upscale the image and wait for the result."""
        ...

    def first_image(self, mark: Tick) -> Image:
        """Upscale the image; call ``mark`` before the first network and after it."""
        ...

    def stages(self) -> Stages:
        """Upscale the image and return the seconds by stage."""
        ...


def time_bundle(call: TimeBundle, advance: Advance) -> PipelineTime:
    """Time a bundle in the runtime."""
    timer = Timer(call, advance)
    pipeline = load_pipeline(call.bundle, call.device, precision=call.precision.split(","))
    device, precisions = pipeline.device, pipeline.precision
    timed = timer.time(_LoadedBundle(pipeline, call, advance), precisions)
    del pipeline  # the check opens every network again
    golden = _golden_error(call, device, precisions) if call.repetitions else None
    return msgspec.structs.replace(timed, golden=golden)


class _LoadedBundle:
    def __init__(self, pipeline: Pipeline, call: TimeBundle, advance: Advance) -> None:
        shape = pipeline.latent_shape(call.size, call.size)
        noise = list(draw_noise(SEED, call.steps, shape))
        lr = lr_image(call.size)
        self._upscale = partial(pipeline.upscale, lr, steps=call.steps, noise=noise, tile=call.tile)
        self._device, self._on_host = pipeline.device, runs_on_host(call.device)
        self._advance = advance

    def image(self) -> Image:
        return self._upscale(progress=self._progress)

    def first_image(self, mark: Tick) -> Image:
        def progress(done: int, total: int) -> None:
            if done < 2:
                mark()
            self._progress(done, total)

        return self._upscale(progress=progress)

    def stages(self) -> Stages:
        device = self._device
        events = [("", device.record_event())]

        def progress(done: int, total: int) -> None:
            if done == 0:
                events.append(("upload", device.record_event()))
            self._progress(done, total)

        def observe(name: str, _array: Any) -> None:
            events.append((STAGE_THAT_ENDS_WITH[name], device.record_event()))

        self._upscale(progress=progress, observe=observe)
        events.append(("download", device.record_event()))
        return summed((stage, device.seconds(a, b)) for (_, a), (stage, b) in pairwise(events))

    def _progress(self, done: int, total: int) -> None:
        """Advance after each network on the host; on a GPU, which runs behind, at the last one."""
        if done and self._on_host:
            self._advance(1 / total)
        elif done == total:
            self._advance(1)


def _golden_error(call: TimeBundle, device: Device, precisions: Mapping[str, str]) -> float | None:
    """Return the largest error against the golden vectors; None where there are none.

    A device that computes something else raises EngineError: its times are worth nothing. A stage
    in bfloat16 or int8 may have any error, which the report shows. TensorRT checks each engine itself, for
    the sizes it was built for.
    """
    if call.device in LIBRARIES:
        return None
    bundle = open_bundle(Path(call.bundle))
    found = [
        check_golden(
            stage,
            from_host(device, device.open(bundle, stage).run),
            largest_image(bundle.golden(stage)),
            math.inf
            if precisions[stage] in ("bf16", "int8")
            else BOUNDS[bundle.manifest.precision],
        )
        for stage in bundle.manifest.stages
    ]
    return max((error for errors in found for error in errors.values()), default=None)


class Timer:
    """Times a contender from before it is loaded."""

    def __init__(self, call: TimePipeline, advance: Advance) -> None:
        self._call, self._advance = call, advance
        self._on_host = runs_on_host(call.device)
        self._mapped = MappedPeak() if self._on_host else None
        self._before = None if self._on_host else _device_memory()
        self._began = time.perf_counter()

    def time(self, loaded: Loaded, precisions: dict[str, str]) -> PipelineTime:
        """Time images without events, then as many with events."""
        call, load = self._call, time.perf_counter() - self._began
        self._advance(1)
        start, image, first = self._first(loaded)
        seconds = []
        for _ in range(call.warmup + call.repetitions):
            image, taken = _timed(loaded.image)
            seconds.append(taken)
        stages = [loaded.stages() for _ in range(call.repetitions if call.by_stage else 0)]
        if call.image:
            np.save(call.image, image)
        return PipelineTime(
            start=start,
            load_s=load,
            first_s=first,
            seconds=seconds[call.warmup :],
            stages=stages,
            precisions=precisions,
            memory_bytes=self._memory(),
            mapped_bytes=self._mapped.bytes() if self._mapped else None,
        )

    def _first(self, loaded: Loaded) -> tuple[StartTime, Image, float]:
        """Return the times of the start, the first image, and its seconds."""
        marks: list[float] = []

        def mark() -> None:
            marks.append(time.time() - self._call.began)

        image, seconds = _timed(lambda: loaded.first_image(mark))
        mark()
        return StartTime(marks[0], marks[1], marks[-1]), image, seconds

    def _memory(self) -> int | None:
        """Return the peak of the process on a CPU, the growth that the driver counts on a GPU.

        torch, CuPy, ONNX Runtime and TensorRT do not release GPU memory, so the growth is their peak.
        """
        if self._on_host:
            return process_peak()
        after = _device_memory()
        return None if self._before is None or after is None else after - self._before


def _timed(work: Callable[[], Image]) -> tuple[Image, float]:
    began = time.perf_counter()
    image = work()
    return image, time.perf_counter() - began


def _device_memory() -> int | None:
    """Return the bytes in use on the GPU by all processes; this creates the CUDA context.

    None where torch was built without CUDA.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free


def summed(parts: Iterable[tuple[str, float]]) -> Stages:
    """Add up the seconds of each stage."""
    sums: defaultdict[str, float] = defaultdict(float)
    for name, seconds in parts:
        sums[name] += seconds
    return dict(sums)


def lr_image(size: int) -> Image:
    """Return the LR image that is measured, a ramp with noise, as uint8 (size, size, 3)."""
    noise = 0.05 * np.random.default_rng(SEED).standard_normal((size, size, 3))
    levels = np.linspace(0.2, 0.8, size)[None, :, None] + noise
    return np.rint(255.0 * np.clip(levels, 0.0, 1.0)).astype(np.uint8)
