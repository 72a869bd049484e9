"""``dossr-bench overhead``: the time of the pipeline outside its networks.

The networks are replaced by no-ops, so the host's share of a run remains. On a GPU it must stay below
the GPU's time, or the GPU waits for Python. Measured on the CPU, where arrays are NumPy's.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np

from ..runtime.bundle import Manifest
from ..runtime.engines.device import Host
from ..runtime.images.color import COLOR_FIXES
from ..runtime.pipeline import Pipeline
from ..runtime.sampling import draw_noise, sample
from ..runtime.tensors import SCALE, Array, TensorSpec
from ..runtime.terminal import Command
from ..solvers import NoiseLevels, dos_sde_coefficients, released_schedule
from .tables import padded_table

_FACTOR, _CHANNELS = 8, 4  # of the released autoencoder
_WARM_UP = 3


@dataclass(frozen=True)
class InstantEngine:
    """A no-op network that returns constant results."""

    results: Mapping[str, Array]
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)

    def run(self, **_inputs: Array) -> dict[str, Array]:
        return dict(self.results)


def instant_pipeline(latent: int) -> Pipeline:
    """Return a pipeline of the released model's shape with no-op networks, for latents of this side."""
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, latent * _FACTOR, latent * _FACTOR), dtype=np.float32)
    code = rng.standard_normal((1, _CHANNELS, latent, latent), dtype=np.float32)
    stages = {
        "restorer": InstantEngine({"restored": image}),
        "encoder": InstantEngine({"mean": code, "std": code * code}),
        "denoiser": InstantEngine({"eps": code[:, ::-1].copy()}),
        "decoder": InstantEngine({"image": image[:, ::-1].copy()}),
    }
    return Pipeline(stages, _manifest())


def parts(latent: int, steps: int, order: int) -> dict[str, Callable[[], Any]]:
    """Return the functions to time, by name. The first three are the host's cost of sampling on any device."""
    pipeline = instant_pipeline(latent)
    side = latent * _FACTOR // SCALE
    lr = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    shape = pipeline.latent_shape(side, side)
    levels = NoiseLevels()
    coefficients = dos_sde_coefficients(released_schedule(steps, levels), order)
    noise = draw_noise(0, steps, shape)
    denoiser = InstantEngine({"eps": noise[-1]})
    decoded, restored = np.random.default_rng(2).random((2, 1, 3, side * SCALE, side * SCALE), np.float32)  # fmt: skip
    device = Host()
    return {
        "schedule and coefficients": lambda: dos_sde_coefficients(
            released_schedule(steps, levels), order
        ),
        "noise": lambda: draw_noise(0, steps, shape),
        f"{steps} solver steps": lambda: sample(
            denoiser, device, coefficients, noise[1], noise[0], noise[0], noise[2:], _ignore
        ),
        "colour fix, wavelet": lambda: COLOR_FIXES["wavelet"](decoded, restored, 1.0),
        "whole image, no colour fix": lambda: pipeline.upscale(
            lr, steps=steps, order=order, color_fix="none", tile=0
        ),
        "whole image, wavelet": lambda: pipeline.upscale(lr, steps=steps, order=order, tile=0),
    }


@click.command("overhead", cls=Command)
@click.option("--latent", type=click.IntRange(8), default=64, show_default=True,
              help="Side of the latent, a multiple of 8; the image is eight times as large.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--order", type=click.IntRange(1, 3), default=3, show_default=True,
              help="Order of the solver.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1), default=200, show_default=True,
              help=f"Timed runs of each part, after {_WARM_UP} untimed runs.")  # fmt: skip
def overhead(latent: int, steps: int, order: int, repeat: int) -> None:
    """Time the pipeline's own work on this CPU, with networks replaced by no-ops.

    Prints milliseconds: median and 90th percentile of wall-clock time, and median CPU time of the
    thread, which other processes affect less. The first three rows are the cost of sampling. The
    other rows process the image, in NumPy here and on the GPU on a GPU.
    """
    if latent % 8:
        raise click.UsageError(f"--latent must be a multiple of 8, got {latent}")
    click.echo(f"latent {latent} x {latent}, {steps} steps of order {order}, {repeat} runs, NumPy {np.__version__}")  # fmt: skip
    figures: dict[str, tuple[float, ...]] = {}
    for name, work in parts(latent, steps, order).items():
        wall, cpu = _times(work, repeat)
        figures[name] = (np.median(wall), np.percentile(wall, 90), np.median(cpu))
    rows = [[name, *(f"{value:.3f}" for value in values)] for name, values in figures.items()]
    wall_sum, _, cpu_sum = np.sum(list(figures.values())[:3], axis=0)
    rows.append(["total of sampling (rows 1 to 3)", f"{wall_sum:.3f}", "", f"{cpu_sum:.3f}"])
    click.echo(padded_table(["milliseconds", "median", "p90", "CPU"], rows))


def _times(work: Callable[[], Any], repeat: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each run: wall-clock time and CPU time of this thread."""
    for _ in range(_WARM_UP):
        work()
    wall, cpu = [], []
    for _ in range(repeat):
        began, began_cpu = time.perf_counter(), time.thread_time()
        work()
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.thread_time() - began_cpu) * 1e3)
    return wall, cpu


def _ignore(name: str, array: Array) -> None:
    """No-op callback."""


def _manifest() -> Manifest:
    return Manifest(
        toolkit_version="", checkpoint="", checkpoint_sha256="", precision="fp32", prompt="",
        latent_scale=1.0, latent_channels=_CHANNELS, vae_factor=_FACTOR, size_multiple=16,
        schedule=NoiseLevels(), model={}, stages={}, files={},
    )  # fmt: skip


if __name__ == "__main__":
    overhead()
