"""Noise and domain-shift levels at the sampled time points.

The state at time point i is (Eq. 2 with Eq. 1 inserted)

    x[i] = alpha[i] * (eta[i] * x_lr + (1 - eta[i]) * x0) + sigma[i] * noise

x0 is the high-resolution latent, x_lr the latent of the restored low-resolution image. alpha and sigma
come from Stable Diffusion's training schedule; eta shifts the mean between the two images.

"Taming Diffusion Prior for Image Super-Resolution with Domain Shift SDEs", NeurIPS 2024.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

TRAIN_STEPS = 1000
SHIFT_STEPS = 500
MOST_STEPS = 10_000


@dataclass(frozen=True)
class NoiseLevels:
    """The training schedule of the latent diffusion model: beta is linear in its square root."""

    linear_start: float = 0.00085
    """beta at network time 0."""

    linear_end: float = 0.0120
    """beta at the last network time."""

    timesteps: int = TRAIN_STEPS
    """Number of network times, T in the paper."""

    def __post_init__(self) -> None:
        if not 0.0 < self.linear_start <= self.linear_end < 1.0:
            raise ValueError(
                "linear_start and linear_end must satisfy 0 < start <= end < 1, "
                f"got {self.linear_start} and {self.linear_end}"
            )
        if not SHIFT_STEPS <= self.timesteps <= MOST_STEPS:
            raise ValueError(
                f"timesteps must be between {SHIFT_STEPS} and {MOST_STEPS}, got {self.timesteps}"
            )

    def alpha_bar(self) -> NDArray[np.float64]:
        """Return alpha squared at every network time, float64 (timesteps,), decreasing."""
        beta: NDArray[np.float64] = (
            np.linspace(self.linear_start**0.5, self.linear_end**0.5, self.timesteps) ** 2
        )
        return np.asarray(np.cumprod(1.0 - beta))


@dataclass(frozen=True)
class Schedule:
    """Levels at the sampled time points, clean end first; all arrays have shape (steps + 1,)."""

    times: NDArray[np.int64]
    """Network time of each point, increasing from 0. The network runs at all but the first."""

    alpha: NDArray[np.float64]
    """Weight of the image, above 0."""

    sigma: NDArray[np.float64]
    """Standard deviation of the noise; ``alpha**2 + sigma**2 == 1``."""

    eta: NDArray[np.float64]
    """Domain shift: 0 is high resolution only, 1 low resolution only."""

    def __post_init__(self) -> None:
        shapes = {getattr(self, field.name).shape for field in fields(self)}
        if len(shapes) != 1 or self.times.ndim != 1 or self.times.size < 2:
            raise ValueError(
                f"a schedule must have four arrays of one shape (steps + 1,), got {shapes}"
            )
        if not np.allclose(self.alpha**2 + self.sigma**2, 1.0, atol=1e-9):
            raise ValueError("alpha**2 + sigma**2 must be 1 at every time point")
        if np.any(self.alpha <= 0.0) or np.any(self.eta < 0.0) or np.any(self.eta > 1.0):
            raise ValueError("alpha must be above 0 and eta between 0 and 1 at every time point")
        if np.any(self.eta[:-1] == 1.0):
            raise ValueError("eta may be 1 at the noisiest time point only")
        if np.any(np.diff(self.inverse_lambda[::-1]) <= 0.0):
            raise ValueError("lambda = sigma / (alpha (1 - eta)) must increase with time")

    @property
    def steps(self) -> int:
        """The number of network evaluations."""
        return self.times.size - 1

    @property
    def inverse_lambda(self) -> NDArray[np.float64]:
        """The ratio alpha (1 - eta) / sigma; 0 where eta is 1, inf where sigma is 0."""
        with np.errstate(divide="ignore"):
            return self.alpha * (1.0 - self.eta) / self.sigma

    @property
    def start(self) -> tuple[float, float]:
        """Coefficients of x_lr and of the noise in the first state (Algorithms 1 to 3, line 1).

        The released sampler rounds eta at the start, 1 - 2.5e-6, to 1. Without a domain shift (DDPM)
        the first state is pure noise.
        """
        return float(self.alpha[-1] * np.rint(self.eta[-1])), float(self.sigma[-1])


def released_schedule(steps: int, levels: NoiseLevels | None = None) -> Schedule:
    """Return the schedule of the released weights at ``steps + 1`` time points.

    eta is Eq. 4 with t1 = T/2 at half-integers, so that it stays below 1 and lambda finite at the
    start. ``steps`` is between 1 and 499.
    """
    return _sample(steps, released_shift(), levels)


def released_shift() -> NDArray[np.float64]:
    """Return eta of the released weights at the network times 0 to 499; from 500 on it is 1."""
    return np.asarray((1.0 - np.cos(np.pi * np.linspace(0.001, 0.999, SHIFT_STEPS))) / 2.0)


def shifted_schedule(
    steps: int, t1: int = SHIFT_STEPS, levels: NoiseLevels | None = None
) -> Schedule:
    """Return the schedule of the paper: exactly Eq. 4, from t1, where eta is 1, to t = 1.

    Time t of the paper is network time t - 1. ``t1`` is between 2 and T; the paper uses T, 2T/3,
    T/2 and T/3. ``steps`` is between 1 and t1 - 1.
    """
    total = (levels or NoiseLevels()).timesteps
    if not 2 <= t1 <= total:
        raise ValueError(f"t1 must be between 2 and {total}, got {t1}")
    t = np.arange(1, t1 + 1)
    return _sample(steps, np.sin(np.pi * t / (2 * t1)) ** 2, levels)


def ddpm_schedule(steps: int, levels: NoiseLevels | None = None) -> Schedule:
    """Return plain DDPM, the special case eta = 0 and t1 = T ("DDPM" in Table 2 of the paper)."""
    return _sample(steps, np.zeros((levels or NoiseLevels()).timesteps), levels)


def _sample(steps: int, eta: NDArray[np.float64], levels: NoiseLevels | None) -> Schedule:
    """Return the levels at ``steps + 1`` evenly spaced times of those that ``eta`` covers."""
    last = eta.size - 1
    if not 1 <= steps <= last:
        raise ValueError(f"steps must be between 1 and {last}, got {steps}")
    # A running sum as in the released code; a product would round step 25 of 50 differently.
    times = np.rint(np.cumsum([0.0] + [last / steps] * steps)).astype(np.int64)
    alpha_bar = (levels or NoiseLevels()).alpha_bar()[times]
    return Schedule(times, np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), eta[times])
