"""Noise from a seed, and the denoising loop: one network run and one weighted sum per step."""

from collections.abc import Callable, Sequence

import numpy as np

from ..solvers import StepCoefficients
from .bundle import Manifest
from .engines.device import Device
from .engines.engine import Engine, check_output
from .images.padding import padded_size
from .tensors import SCALE, Array

Observe = Callable[[str, Array], None]
"""Called with the name and value of an intermediate array."""


def latent_shape(manifest: Manifest, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the shape of each noise array for an LR image of this size."""
    size = padded_size(height, width, manifest.size_multiple)
    rows, columns = (side * SCALE // manifest.vae_factor for side in size)
    return 1, manifest.latent_channels, rows, columns


def draw_noise(seed: int, steps: int, shape: tuple[int, ...]) -> Array:
    """Draw the standard normal noise of one image: posterior, start, then one array per step.

    The result is float32 (steps + 2, *shape), for ``shape`` (1, channels, rows, columns). NumPy's Philox
    generator on the host makes a seed give the same image on every device.
    """
    return draw_noises([seed], steps, shape)


def draw_noises(seeds: Sequence[int], steps: int, shape: tuple[int, ...]) -> Array:
    """Draw the noise of several seeds, each as ``draw_noise``: float32 (steps + 2, seeds, *shape[1:]).

    Nothing but the result is held.
    """
    noise = np.empty((steps + 2, len(seeds), *shape[1:]), np.float32)
    for number, seed in enumerate(seeds):
        generator = np.random.Generator(np.random.Philox(seed))
        for part in noise[:, number]:
            generator.standard_normal(out=part, dtype=np.float32)
    return noise


def sample(
    denoiser: Engine,
    device: Device,
    coefficients: Sequence[StepCoefficients],
    x: Array,
    x_lr: Array,
    hint: Array,
    noise: Sequence[Array] | Array,
    observe: Observe,
) -> Array:
    """Return the final latent, starting from ``x``.

    All arrays belong to ``device`` and are float32 (batch, channels, height, width). ``noise`` has
    one array per step. ``observe`` receives x, eps and x0 of each step.
    """
    older: tuple[Array, ...] = ()
    kept = max(len(row.x0) for row in coefficients) - 1
    for row, z in zip(coefficients, noise, strict=True):
        observe("x", x)
        time = np.full_like(x[:, 0, 0, 0], row.time)
        eps = denoiser.run(x=x, hint=hint, time=time)["eps"]
        check_output("denoiser", eps, x.shape)
        observe("eps", eps)
        x0, x = device.step(row, x, eps, x_lr, older, z)
        observe("x0", x0)
        older = (x0, *older)[:kept]
    return x
