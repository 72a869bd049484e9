"""Inputs for tracing and verification: a procedural image, passed from stage to stage."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..runtime.tensors import SCALE
from .checkpoint.config import ModelConfig
from .stages import Arrays, Stage
from .verify import Case

Run = tuple[Arrays, int | None]  # the inputs of a stage and, for the denoiser, the network time

_SEED = 0


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

    There are two shapes: one image of the smallest size, and two images of twice its height.
    """

    def __init__(self, config: ModelConfig, times: Sequence[int]) -> None:
        side = config.size_multiple
        self._times = times
        self._alpha_bar = config.levels.alpha_bar()
        self._random = np.random.default_rng(_SEED)
        self._known = [{"lr": _image(1, side, side)}, {"lr": _image(2, 2 * side, side)}]

    def runs(self, stage: Stage) -> list[Run]:
        """Return the inputs to run a stage on; the denoiser runs at every time of the grid."""
        if stage.name == "denoiser":
            return [self._denoising(known, time) for known in self._known for time in self._times]
        if stage.name == "decoder":
            return [({"x": known["mean"]}, None) for known in self._known]
        return [({name: known[name] for name in stage.inputs}, None) for known in self._known]

    def follow(self, cases: Sequence[Case]) -> None:
        """Keep a stage's outputs as inputs of later stages."""
        for case in cases:
            if case.time is None:
                shape = len(next(iter(case.outputs.values())))
                self._known[shape - 1].update(case.outputs)

    def _denoising(self, known: Arrays, time: int) -> Run:
        mean = known["mean"]
        noise = self._random.standard_normal(mean.shape)
        alpha = np.sqrt(self._alpha_bar[time])
        x = alpha * mean + np.sqrt(1.0 - alpha**2) * noise
        times = np.full(len(mean), time, np.float32)
        return {"x": x.astype(np.float32), "hint": known.get("hint", mean), "time": times}, time


def _image(batch: int, height: int, width: int) -> np.ndarray:
    """Return gradients, an edge and weak noise, float32 (batch, 3, height, width) in [0, 1]."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    edge = (x + y > 1.0) * 0.4
    plain = np.stack([0.3 * x + edge, 0.5 * y + 0.2, 0.6 - 0.3 * x * y])
    noise = np.random.default_rng(_SEED).normal(0.0, 0.02, (batch, *plain.shape))
    return np.clip(plain + noise, 0.0, 1.0).astype(np.float32)
