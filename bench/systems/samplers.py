"""Ancestral DDPM sampling on a subset of the training times, used by three systems."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TRAIN_STEPS = 1000


def spaced_times(count: int, timesteps: int = TRAIN_STEPS) -> NDArray[np.int64]:
    """Return ``count`` evenly spaced network times from 0 to ``timesteps - 1``, ascending.

    Rounds as DDPM respacing does (Nichol and Dhariwal 2021): a running sum of the stride, rounded
    half to even.
    """
    if not 2 <= count <= timesteps:
        raise ValueError(f"count must be between 2 and {timesteps}, got {count}")
    stride = (timesteps - 1) / (count - 1)
    times: NDArray[np.int64] = np.rint(np.cumsum([0.0] + [stride] * (count - 1))).astype(np.int64)
    return times


class SpacedDDPM:
    """The DDPM posterior between kept times: eps prediction, "fixed small" variance, no clipping.

    Sampling runs from index ``len(times) - 1`` (noise) to 0 (clean). The network receives
    ``times[index]``.
    """

    def __init__(self, times: NDArray[np.int64], alpha_bar: NDArray[np.float64]) -> None:
        """``times``: ascending. ``alpha_bar``: of every training time, descending, below 1."""
        self.times = times
        kept = alpha_bar[times]
        previous = np.append(1.0, kept[:-1])
        beta = 1.0 - kept / previous
        x = np.sqrt(previous / kept)
        spread = np.sqrt(beta * (1.0 - previous) / (1.0 - kept))
        self._x: list[float] = x.tolist()
        self._eps: list[float] = (-x * beta / np.sqrt(1.0 - kept)).tolist()
        self._noise: list[float] = spread.tolist()

    def step(self, index: int, x: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
        """Sample the state at ``times[index - 1]`` from x at ``times[index]``; index 0 gives the clean end.

        ``noise`` is standard normal; its coefficient is 0 at index 0 (Ho et al. 2020, Eqs. 7, 11).
        """
        return self._x[index] * x + self._eps[index] * eps + self._noise[index] * noise
