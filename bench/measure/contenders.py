"""The contenders of ``dossr-bench pipeline``, each in a process of its own."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...export.checkpoint.reader import read_checkpoint
from ...runtime.pipeline import load_pipeline
from ...runtime.sampling import draw_noise
from ...runtime.tensors import Image
from .backends import torch_backend
from .events import TimedCalls, between, record_event
from .process import Job
from .reference import Reference
from .timing import Tick, pixels, process_peak
from .variants import VARIANTS

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
"""Which stage a network of the released procedure belongs to."""

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
"""Which stage of a bundle ends with an array that its observer sees. The upload before them ends
with the first word of progress, the download after them with the image."""


def time_reference(job: Job, tick: Tick) -> dict[str, Any]:
    """The released procedure in torch, from the checkpoint's tensors."""
    before = _device_memory(job.device)
    began = time.perf_counter()
    config = Path(job.files["config"]) if job.files["config"] else None
    checkpoint = read_checkpoint(Path(job.files["checkpoint"]), config)
    backend = torch_backend(VARIANTS[job.variant], job.device)
    network = Reference(checkpoint, backend)
    backend.synchronize()
    loaded = time.perf_counter() - began
    model = checkpoint.config
    side = job.size * 4 // model.vae.factor
    lr = pixels(job.size)
    noise = draw_noise(_SEED, job.steps, (1, model.vae.latent_channels, side, side))

    def stages() -> Stages:
        calls = TimedCalls(network.call, backend.device)
        start = record_event(backend.device)
        network.upscale(lr, job.steps, noise, calls)
        end = record_event(backend.device)
        backend.synchronize()
        found = _summed((STAGE_OF[name], seconds) for name, seconds in calls.seconds())
        return {**found, "rest": between(start, end) - sum(found.values())}

    found = _timed(lambda: network.upscale(lr, job.steps, noise), stages, job, tick)
    return {"load_s": loaded, **found, "memory_bytes": _held(job.device, before)}


def time_bundle(job: Job, tick: Tick) -> dict[str, Any]:
    """The bundle in the runtime."""
    before = _device_memory(job.device)
    began = time.perf_counter()
    pipeline = load_pipeline(job.files["bundle"], job.device)
    loaded = time.perf_counter() - began
    lr, device = pixels(job.size), pipeline.device
    noise = list(draw_noise(_SEED, job.steps, pipeline.latent_shape(job.size, job.size)))
    upscale = partial(pipeline.upscale, lr, steps=job.steps, noise=noise, tile=0)  # as the released

    def stages() -> Stages:
        events = [("", device.record_event())]

        def progress(done: int, total: int) -> None:
            if done == 0:
                events.append(("upload", device.record_event()))

        def observe(name: str, array: Any) -> None:
            events.append((STAGE_THAT_ENDS_WITH[name], device.record_event()))

        upscale(progress=progress, observe=observe)
        events.append(("download", device.record_event()))
        return _summed((stage, device.seconds(a, b)) for (_, a), (stage, b) in pairwise(events))

    found = _timed(upscale, stages, job, tick)
    return {"load_s": loaded, **found, "memory_bytes": _held(job.device, before)}


def _timed(
    upscale: Callable[[], Image], stages: Callable[[], Stages], job: Job, tick: Tick
) -> dict[str, Any]:
    """Images without events, then as many with them; ``upscale`` waits for its result."""
    seconds = []
    tick()
    for _ in range(1 + job.warmup + job.repetitions):
        began = time.perf_counter()
        image = upscale()
        seconds.append(time.perf_counter() - began)
        tick()
    marked = []
    for _ in range(job.repetitions):
        marked.append(stages())
        tick()
    np.save(job.files["image"], image)
    return {
        "first_s": seconds[0],
        "seconds": seconds[1 + job.warmup :],
        "stages": marked,
    }


def _summed(parts: Iterable[tuple[str, float]]) -> Stages:
    sums: defaultdict[str, float] = defaultdict(float)
    for name, seconds in parts:
        sums[name] += seconds
    return dict(sums)


def _device_memory(device: str) -> int | None:
    """Bytes in use on the GPU, by whomever, once this process has its CUDA context.

    None on the CPU, and where torch was built without CUDA.
    """
    if device == "cpu" or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return total - free


def _held(device: str, before: int | None) -> int | None:
    """Bytes that a contender took: the process's peak on the CPU, what the driver counts on a GPU.

    There torch, CuPy, ONNX Runtime and TensorRT keep what they once took, so it is their peak.
    """
    if device == "cpu":
        return process_peak()
    after = _device_memory(device)
    return None if before is None or after is None else after - before
