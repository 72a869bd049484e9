"""Inputs for tracing, verification and golden vectors: a procedural image, passed from stage to stage."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.bundle import GoldenCase
from ..runtime.tensors import SCALE
from ..solvers import NoiseLevels, released_schedule
from .checkpoint.config import ModelConfig
from .stages import Arrays, Stage

_SEED = 0
_FEW_STEPS = 5
"""On the two larger images, the denoiser runs at the times of the default number of steps."""


@dataclass(frozen=True)
class Run:
    """Inputs of a stage."""

    image: int
    """Index of the image that they come from."""

    inputs: Arrays
    time: int | None = None
    """The network time, for the denoiser."""


def example(stage: Stage, config: ModelConfig) -> tuple[Tensor, ...]:
    """Return inputs for tracing: batch 2, different sides, none of which is 1 on any level."""
    lr = (2 * config.size_multiple, 3 * config.size_multiple)
    restored = tuple(SCALE * side for side in lr)
    latent = tuple(side // config.vae.factor for side in restored)
    shapes = {
        "lr": (2, 3, *lr),
        "restored": (2, 3, *restored),
        "x": (2, config.vae.latent_channels, *latent),
        "hint": (2, config.vae.latent_channels, *latent),
        "time": (2,),
    }
    return tuple(torch.zeros(shapes[name]) for name in stage.inputs)


class ProbeInputs:
    """The inputs of each stage, computed from torch's outputs of the stages before it.

    They come from three images: one of the smallest size, a batch of two of twice its height, and one
    of the size of a tile, for engines of fixed size. ``steps``: the step counts at whose times the
    denoiser runs on the smallest. ``tile``: side of a tile in LR pixels.
    """

    def __init__(self, config: ModelConfig, steps: Sequence[int], tile: int) -> None:
        side = config.size_multiple
        self._alpha_bar = config.levels.alpha_bar()
        self._random = np.random.default_rng(_SEED)
        shapes = ((1, side, side), (2, 2 * side, side), (1, tile, tile))
        self._known = [{"lr": _image(*shape)} for shape in shapes]
        every, some = grid(steps, config.levels), grid((_FEW_STEPS,), config.levels)
        self._times = (every, some, some)

    def runs(self, stage: Stage) -> list[Run]:
        """Return the inputs to run a stage on; the denoiser runs at every time of the grid."""
        if stage.name == "denoiser":
            return [
                self._denoising(image, time)
                for image, times in enumerate(self._times)
                for time in times
            ]
        if stage.name == "decoder":
            return [Run(image, {"x": known["mean"]}) for image, known in enumerate(self._known)]
        return [
            Run(image, {name: known[name] for name in stage.inputs})
            for image, known in enumerate(self._known)
        ]

    def follow(self, runs: Sequence[Run], cases: Sequence[GoldenCase]) -> None:
        """Keep a stage's outputs as inputs of later stages."""
        for run, case in zip(runs, cases, strict=True):
            if run.time is None:
                self._known[run.image].update(case.outputs)

    def _denoising(self, image: int, time: int) -> Run:
        known = self._known[image]
        mean = known["mean"]
        noise = self._random.standard_normal(mean.shape)
        alpha = np.sqrt(self._alpha_bar[time])
        x = alpha * mean + np.sqrt(1.0 - alpha**2) * noise
        times = np.full(len(mean), time, np.float32)
        inputs = {"x": x.astype(np.float32), "hint": known.get("hint", mean), "time": times}
        return Run(image, inputs, time)


@torch.no_grad()
def reference(
    stage: Stage, network: nn.Module, inputs: Arrays, time: int | None = None
) -> GoldenCase:
    """Return what torch gives for these inputs of a stage."""
    results = network(*(torch.from_numpy(inputs[name]) for name in stage.inputs))
    results = results if isinstance(results, tuple) else (results,)
    outputs = {name: r.numpy() for name, r in zip(stage.outputs, results, strict=True)}
    return GoldenCase(inputs, outputs, time)


def grid(steps: Sequence[int], levels: NoiseLevels) -> list[int]:
    """Return every time at which one of the step counts runs the denoiser, noisiest first."""
    times = {int(t) for n in steps for t in released_schedule(n, levels).times[1:]}
    return sorted(times, reverse=True)


def _image(batch: int, height: int, width: int) -> np.ndarray:
    """Return gradients, an edge and weak noise, float32 (batch, 3, height, width) in [0, 1]."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    edge = (x + y > 1.0) * 0.4
    plain = np.stack([0.3 * x + edge, 0.5 * y + 0.2, 0.6 - 0.3 * x * y])
    noise = np.random.default_rng(_SEED).normal(0.0, 0.02, (batch, *plain.shape))
    return np.clip(plain + noise, 0.0, 1.0).astype(np.float32)
