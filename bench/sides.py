"""The two sides of ``dossr-bench pipeline``, each in a process of its own."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..export.checkpoint import read_checkpoint
from ..runtime.pipeline import Image, load_pipeline
from ..runtime.sampling import draw_noise
from .child import Job
from .measure import Tick, pixels, process_peak
from .reference import Reference

_SEED = 0


def reference_side(job: Job, tick: Tick) -> dict[str, Any]:
    """The released procedure in torch eager, float32, from the checkpoint's tensors."""
    began = time.perf_counter()
    config = Path(job.files["config"]) if job.files["config"] else None
    checkpoint = read_checkpoint(Path(job.files["checkpoint"]), config)
    network = Reference(checkpoint, torch.device("cpu"))
    loaded = time.perf_counter() - began
    model = checkpoint.config
    side = job.size * 4 // model.vae.factor
    noise = draw_noise(_SEED, job.steps, (1, model.vae.latent_channels, side, side))
    lr = torch.from_numpy(pixels(job.size)).permute(2, 0, 1)[None].float() / 255.0

    def upscale() -> Image:
        image = network.upscale(lr, job.steps, noise)[0].permute(1, 2, 0)
        return np.asarray((image * 255.0).round().to(torch.uint8).numpy())

    return _timed(upscale, loaded, job, tick)


def bundle_side(job: Job, tick: Tick) -> dict[str, Any]:
    """The bundle in the runtime."""
    began = time.perf_counter()
    pipeline = load_pipeline(job.files["bundle"])
    loaded = time.perf_counter() - began
    lr = pixels(job.size)
    noise = draw_noise(_SEED, job.steps, pipeline.latent_shape(job.size, job.size))
    return _timed(
        lambda: pipeline.upscale(lr, steps=job.steps, noise=list(noise)), loaded, job, tick
    )


def _timed(upscale: Callable[[], Image], loaded: float, job: Job, tick: Tick) -> dict[str, Any]:
    seconds = []
    tick()
    for _ in range(1 + job.warmup + job.repetitions):
        began = time.perf_counter()
        image = upscale()
        seconds.append(time.perf_counter() - began)
        tick()
    np.save(job.files["picture"], image)
    return {
        "load_s": loaded,
        "first_s": seconds[0],
        "seconds": seconds[1 + job.warmup :],
        "peak_bytes": process_peak(),
    }
