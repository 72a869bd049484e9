"""The rows of the paper's Table 6: five steps of other samplers, and of the domain-shift SDE solver.

Without a domain shift the prior is Stable Diffusion's: the state at time t is
alpha_t * x0 + sigma_t * noise with sigma = sqrt(1 - alpha**2), the network returns the noise, and
sampling starts from noise at t = T - 1. The paper prints the samplers' names and the number of steps;
the other settings are stated at each sampler.
"""

import math
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from numpy.typing import NDArray
from torch import Tensor

from ...solvers import NoiseLevels
from .dossr import dos_sde
from .networks import sd
from .procedure import Denoise, Sampler, sampled_system
from .system import Noise, System

STEPS = 5

S_CHURN, S_MIN, S_NOISE = 40.0, 0.05, 1.003
"""Stochasticity of EDM on ImageNet-64 (Karras et al. 2022, Table 5)."""

S_MAX = 10.0
"""Noisier states are not churned: sigma would leave the range of the network, which ends at 14.6.

EDM's own value on ImageNet-64 is 50, for a network that reaches sigma = 80.
"""

Scheduler = TypeVar("Scheduler", DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler)


def ddim(levels: NoiseLevels, steps: int = STEPS) -> Sampler:
    """Return DDIM with eta = 1 (Song et al. 2021, Eqs. 12 and 16); the last step returns x0.

    The times are evenly spaced from T - 1 ("trailing"), and alpha is 1 after the last.
    """
    return Sampler(steps, partial(_ddim, levels, steps), reads_x_lr=False)


def dpm_solver(levels: NoiseLevels, steps: int = STEPS) -> Sampler:
    """Return multistep DPM-Solver++ of order 3, the ODE solver (Lu et al. 2022, Section 4).

    It expands x0 in the integral of their Proposition 4.1 by divided differences. Times as ``ddim``. The orders of five steps are 1, 2, 3, 2, 1: the last two are lowered, as
    the authors' code does below 15 steps.
    """
    return Sampler(steps, partial(_dpm_solver, levels, steps), reads_x_lr=False)


def edm(levels: NoiseLevels, steps: int = STEPS) -> Sampler:
    """Return EDM's stochastic sampler (Karras et al. 2022, Algorithm 2) on their sigmas (Eq. 5, rho = 7).

    Heun's correction (lines 9 to 11) is left out: it would double the network calls, and the paper
    compares equal steps.
    """
    return Sampler(steps, partial(_edm, levels, steps), reads_x_lr=False)


def karras_sigmas(levels: NoiseLevels, steps: int) -> list[float]:
    """Return ``steps`` sigmas between those of the training times, noisiest first, then 0."""
    scheduler = _on_levels(
        EulerDiscreteScheduler(num_train_timesteps=levels.timesteps, use_karras_sigmas=True), levels
    )
    scheduler.set_timesteps(steps)
    sigmas: list[float] = scheduler.sigmas.tolist()
    return sigmas


def churned(sigma: float, steps: int) -> float:
    """Return sigma_hat, the noise after the churn (Algorithm 2, line 5)."""
    gamma = min(S_CHURN / steps, math.sqrt(2.0) - 1.0) if S_MIN <= sigma <= S_MAX else 0.0
    return sigma * (1.0 + gamma)


def edm_step(x: Tensor, eps: Tensor, sigma: float, after: float) -> Tensor:
    """Return the Euler step from sigma to ``after``, where (x - D(x)) / sigma is eps (lines 7 and 8)."""
    return x + (after - sigma) * eps


def network_time(levels: NoiseLevels, sigma: float) -> float:
    """Return the network time with this sigma; between training times it is linear in log sigma."""
    known = np.log(_sigmas(levels))
    return float(np.interp(math.log(sigma), known, np.arange(known.size)))


def _ddim(levels: NoiseLevels, steps: int, denoise: Denoise, like: Tensor, noise: Noise) -> Tensor:
    scheduler = _on_levels(
        DDIMScheduler(
            num_train_timesteps=levels.timesteps, clip_sample=False, timestep_spacing="trailing"
        ),
        levels,
    )
    scheduler.set_timesteps(steps)
    x = noise.normal(*like.shape)
    for time in scheduler.timesteps.tolist():
        x = scheduler.step(
            denoise(x, time), time, x, eta=1.0, variance_noise=noise.normal(*x.shape)
        ).prev_sample
    return x


def _dpm_solver(
    levels: NoiseLevels, steps: int, denoise: Denoise, like: Tensor, noise: Noise
) -> Tensor:
    scheduler = _on_levels(
        DPMSolverMultistepScheduler(
            num_train_timesteps=levels.timesteps, solver_order=3, timestep_spacing="trailing"
        ),
        levels,
    )
    scheduler.set_timesteps(steps)
    x = noise.normal(*like.shape)
    for time in scheduler.timesteps:
        x = scheduler.step(denoise(x, float(time)), time, x).prev_sample
    return x


def _edm(levels: NoiseLevels, steps: int, denoise: Denoise, like: Tensor, noise: Noise) -> Tensor:
    """Sample x0 + sigma * noise; the network reads it divided by sqrt(sigma**2 + 1).

    diffusers' scheduler churns after the network call, so that the network sees the state before
    it. Algorithm 2 churns first, and so does this loop.
    """
    sigmas = karras_sigmas(levels, steps)
    x = sigmas[0] * noise.normal(*like.shape)
    for sigma, after in pairwise(sigmas):
        hat = churned(sigma, steps)
        if hat > sigma:
            x = x + S_NOISE * math.sqrt(hat**2 - sigma**2) * noise.normal(*x.shape)
        eps = denoise(x / math.sqrt(hat**2 + 1.0), network_time(levels, hat))
        x = edm_step(x, eps, hat, after)
    return x


def _on_levels(scheduler: Scheduler, levels: NoiseLevels) -> Scheduler:
    """Give a scheduler the model's levels in float64; it would accumulate them in float32."""
    scheduler.alphas_cumprod = levels.alpha_bar()
    return scheduler


def _sigmas(levels: NoiseLevels) -> NDArray[np.float64]:
    alpha_bar = levels.alpha_bar()
    return np.asarray(np.sqrt((1.0 - alpha_bar) / alpha_bar))


_WITHOUT_SHIFT = {
    "ddim": ("DDIM (eta 1)", ddim),
    "edm": ("EDM", edm),
    "dpm-solver-3": ("DPM-Solver++-3", dpm_solver),
}


def _without_shift(name: str, size: int = 128, reduced: bool = False) -> System:
    """Return five steps of a sampler on DiffBIR's network, from noise."""
    title, sampler = _WITHOUT_SHIFT[name]
    note = "from noise, so that the encoder of x_lr is not run"
    return sampled_system(name, title, sampler(sd.widths(reduced).levels), size, reduced, note)


def _with_shift(order: int, size: int = 128, reduced: bool = False) -> System:
    """Return five steps of the released solver in this order."""
    sampler = dos_sde(STEPS, order, sd.widths(reduced).levels)
    return sampled_system(f"dos-sde-{order}", f"DoS SDE-Solver-{order}", sampler, size, reduced)


ddim_row, edm_row, dpm_solver_row = (partial(_without_shift, name) for name in _WITHOUT_SHIFT)
dos_sde_1, dos_sde_2, dos_sde_3 = (partial(_with_shift, order) for order in (1, 2, 3))
