"""The contenders of ``dossr-bench pipeline``: the released procedure in torch, and bundles in the runtime."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from ...export.checkpoint.reader import read_checkpoint
from ...runtime.bundle import open_bundle
from ...runtime.engines.auto import check_device
from ...runtime.engines.device import Device
from ...runtime.engines.tensorrt.library import LIBRARIES
from ...runtime.pipeline import load_pipeline
from ...runtime.sampling import draw_noise
from ...runtime.tensors import Image
from .backends import torch_backend
from .calls import VARIANTS, PipelineTime, TimeBundle, TimePipeline, TimeReference
from .events import TimedCalls, between, record_event
from .reference import Reference
from .timing import Tick, pixels, process_peak

_SEED = 0

Stages = dict[str, float]
"""Seconds of one image, by stage."""

STAGE_OF = {
    "restorer": "restorer",
    "text": "text",
    "condition": "encoder",
    "encoder": "encoder",
    "control": "denoiser",
    "unet": "denoiser",
    "decoder": "decoder",
}
"""The stage of each network of the released procedure."""

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


def time_reference(call: TimeReference, tick: Tick) -> PipelineTime:
    """Time the released procedure in torch, with the checkpoint's weights."""
    before = _device_memory(call.device)
    began = time.perf_counter()
    checkpoint = read_checkpoint(Path(call.checkpoint), Path(call.config) if call.config else None)
    backend = torch_backend(VARIANTS[call.variant], call.device)
    network = Reference(checkpoint, backend)
    backend.synchronize()
    loaded = time.perf_counter() - began
    model = checkpoint.config
    side = call.size * 4 // model.vae.factor
    lr = pixels(call.size)
    noise = draw_noise(_SEED, call.steps, (1, model.vae.latent_channels, side, side))

    def stages() -> Stages:
        calls = TimedCalls(network.call, backend.device)
        start = record_event(backend.device)
        network.upscale(lr, call.steps, noise, calls)
        end = record_event(backend.device)
        backend.synchronize()
        found = _summed((STAGE_OF[name], seconds) for name, seconds in calls.seconds())
        return {**found, "rest": between(start, end) - sum(found.values())}

    upscale = partial(network.upscale, lr, call.steps, noise)
    return _timed(upscale, stages, call, loaded, before, tick)


def time_bundle(call: TimeBundle, tick: Tick) -> PipelineTime:
    """Time the bundle in the runtime."""
    before = _device_memory(call.device)
    began = time.perf_counter()
    pipeline = load_pipeline(call.bundle, call.device)
    loaded = time.perf_counter() - began
    lr, device = pixels(call.size), pipeline.device
    noise = list(draw_noise(_SEED, call.steps, pipeline.latent_shape(call.size, call.size)))
    upscale = partial(pipeline.upscale, lr, steps=call.steps, noise=noise, tile=0)  # as released

    def stages() -> Stages:
        events = [("", device.record_event())]

        def progress(done: int, _total: int) -> None:
            if done == 0:
                events.append(("upload", device.record_event()))

        def observe(name: str, _array: Any) -> None:
            events.append((STAGE_THAT_ENDS_WITH[name], device.record_event()))

        upscale(progress=progress, observe=observe)
        events.append(("download", device.record_event()))
        return _summed((stage, device.seconds(a, b)) for (_, a), (stage, b) in pairwise(events))

    timed = _timed(upscale, stages, call, loaded, before, tick)
    return msgspec.structs.replace(timed, golden=_golden_error(call, device))


def _golden_error(call: TimeBundle, device: Device) -> float | None:
    """Return the largest error against the golden vectors; None where there are none.

    A device that computes something else raises EngineError: its times are worth nothing. TensorRT
    checks each engine itself, for the sizes it was built for.
    """
    if call.device in LIBRARIES:
        return None
    errors = check_device(device, open_bundle(Path(call.bundle)))
    return max((error for stage in errors.values() for error in stage.values()), default=None)


def _timed(
    upscale: Callable[[], Image],
    stages: Callable[[], Stages],
    call: TimePipeline,
    loaded: float,
    before: int | None,
    tick: Tick,
) -> PipelineTime:
    """Time images without events, then as many with events; ``upscale`` waits for its result."""
    seconds = []
    tick()
    for _ in range(1 + call.warmup + call.repetitions):
        began = time.perf_counter()
        image = upscale()
        seconds.append(time.perf_counter() - began)
        tick()
    by_stage = []
    for _ in range(call.repetitions):
        by_stage.append(stages())
        tick()
    np.save(call.image, image)
    return PipelineTime(
        load_s=loaded,
        first_s=seconds[0],
        seconds=seconds[1 + call.warmup :],
        stages=by_stage,
        memory_bytes=_memory_peak(call.device, before),
    )


def _summed(parts: Iterable[tuple[str, float]]) -> Stages:
    sums: defaultdict[str, float] = defaultdict(float)
    for name, seconds in parts:
        sums[name] += seconds
    return dict(sums)


def _device_memory(device: str) -> int | None:
    """Return the bytes in use on the GPU by all processes; this creates the CUDA context.

    None on the CPU, and where torch was built without CUDA.
    """
    if device == "cpu" or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free


def _memory_peak(device: str, before: int | None) -> int | None:
    """Return the peak of the process on the CPU, the growth that the driver counts on a GPU.

    torch, CuPy, ONNX Runtime and TensorRT do not release GPU memory, so the growth is their peak.
    """
    if device == "cpu":
        return process_peak()
    after = _device_memory(device)
    return None if before is None or after is None else after - before
