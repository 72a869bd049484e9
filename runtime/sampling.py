"""The sampling loop: one network evaluation and one weighted sum per step."""

from collections.abc import Callable, Sequence

import numpy as np

from ..solvers import StepWeights, predict_x0, step
from .engine import Array, Engine

Observe = Callable[[str, Array], None]


def draw_noise(seed: int, steps: int, shape: tuple[int, ...]) -> list[Array]:
    """Every draw of one picture: posterior, start, then one per step; standard normal float32.

    From NumPy's Philox on the host, so a seed means the same picture on every backend.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    return [generator.standard_normal(shape, dtype=np.float32) for _ in range(steps + 2)]


def sample(
    denoiser: Engine,
    weights: Sequence[StepWeights],
    x: Array,
    x_lr: Array,
    hint: Array,
    noise: Sequence[Array],
    observe: Observe,
) -> Array:
    """The final latent, from the start ``x``; all arrays float32 (batch, channels, height, width).

    ``noise`` holds one array per step. ``observe`` is given x, eps and x0 of each step.
    """
    history: list[Array] = []
    order = max(len(row.x0) for row in weights)
    for row, z in zip(weights, noise, strict=True):
        observe("x", x)
        time = np.full(x.shape[0], row.time, np.float32)
        eps = denoiser.run(x=x, hint=hint, time=time)["eps"]
        observe("eps", eps)
        history = [predict_x0(row, x, eps), *history[: order - 1]]
        observe("x0", history[0])
        x = step(row, x, x_lr, history, z)
    return x
