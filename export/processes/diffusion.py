"""The two processes on the noise levels of Stable Diffusion: DDPM, and DoSSR's domain shift."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ...solvers import NoiseLevels, released_shift
from .forward import Point, Process, at


@dataclass(frozen=True)
class Diffusion(Process):
    """x_t = alpha_t x0 + sigma_t noise ("Denoising Diffusion Probabilistic Models", Ho et al. 2020, Eq. 4).

    The network is trained towards the noise in the L2 norm (their Eq. 14); x_lr reaches it as the
    hint alone, as in DiffBIR.
    """

    levels: NoiseLevels = field(default_factory=NoiseLevels)

    @property
    def first(self) -> int:
        """Level 0 keeps a little noise."""
        return 0

    @property
    def last(self) -> int:
        """The last network time."""
        return self.levels.timesteps - 1

    @property
    def pace(self) -> float:
        """Levels are network times."""
        return 1.0

    def state(self, point: Point) -> Tensor:
        """Return the noisy data."""
        alpha, sigma = self.strengths(point)
        return alpha * point.x0 + sigma * point.noise

    def target(self, point: Point) -> Tensor:
        """Return the noise."""
        return point.noise

    def strengths(self, point: Point) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at each level, (n, 1, 1, 1)."""
        alpha_bar = self.levels.alpha_bar()
        alpha, sigma = np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar)
        return at(alpha, point.level, point.x0), at(sigma, point.level, point.x0)


@dataclass(frozen=True)
class DomainShift(Diffusion):
    """x_t = alpha_t (eta_t x_lr + (1 - eta_t) x0) + sigma_t noise (Eqs. 1 and 2), t from 0 to T/2 - 1.

    "Taming Diffusion Prior for Image Super-Resolution with Domain Shift SDEs", Cui et al. 2024. The
    released network was trained on x_theta = (x_t - sigma_t * output) / alpha_t in the L1 norm towards
    x0, so its output approaches noise + alpha eta (x_lr - x0) / sigma.
    """

    @property
    def last(self) -> int:
        """The last network time before T/2."""
        return released_shift().size - 1

    def state(self, point: Point) -> Tensor:
        """Return the noisy shifted data; level 0 keeps a little noise."""
        alpha, sigma = self.strengths(point)
        eta = at(released_shift(), point.level, point.x0)
        return alpha * (eta * point.x_lr + (1.0 - eta) * point.x0) + sigma * point.noise

    def target(self, point: Point) -> Tensor:
        """Return the noise and the shift together, so that the DDPM inversion of the state is x0."""
        alpha, sigma = self.strengths(point)
        eta = at(released_shift(), point.level, point.x0)
        return point.noise + alpha * eta / sigma * (point.x_lr - point.x0)

    def loss(self, out: Tensor, point: Point) -> Tensor:
        """Return the L1 distance of x_theta from x0, that of the released training."""
        alpha, sigma = self.strengths(point)
        return F.l1_loss((self.state(point) - sigma * out) / alpha, point.x0)
