"""Ancestral DDPM sampling on some of the training times, as three of the systems do it."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

TRAIN_STEPS = 1000


def spaced_times(count: int, timesteps: int = TRAIN_STEPS) -> NDArray[np.int64]:
    """``count`` of the network times 0 .. timesteps - 1, evenly spaced with both ends, rising.

    The rounding is that of DDPM respacing (Nichol and Dhariwal 2021): a running sum of the stride,
    rounded half to even.
    """
    if not 2 <= count <= timesteps:
        raise ValueError(f"count must be between 2 and {timesteps}, got {count}")
    stride = (timesteps - 1) / (count - 1)
    times: NDArray[np.int64] = np.rint(np.cumsum([0.0] + [stride] * (count - 1))).astype(np.int64)
    return times


class SpacedDDPM:
    """The DDPM posterior between kept times: eps prediction, "fixed small" variance, no clipping.

    Index 0 is the clean end: sampling counts from ``len(times) - 1`` down to 0. The network is
    given ``times[index]``.
    """

    def __init__(self, times: NDArray[np.int64], alpha_bar: NDArray[np.float64]) -> None:
        """``times``: rising. ``alpha_bar``: at every training time, falling, below 1."""
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
        """A draw at ``times[index - 1]``, or the clean end where ``index`` is 0, from x at index.

        ``noise`` is standard normal and has no weight at index 0 (Ho et al. 2020, Eqs. 7, 11).
        """
        return self._x[index] * x + self._eps[index] * eps + self._noise[index] * noise
