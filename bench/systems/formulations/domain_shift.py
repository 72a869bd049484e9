"""DoSSR's formulation, as the released weights were trained.

"Taming Diffusion Prior for Image Super-Resolution with Domain Shift SDEs", Cui et al. 2024.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ....solvers import NoiseLevels, released_shift
from ..dossr import ORDER, dos_sde
from ..procedure import Denoise
from ..system import Noise
from .formulation import Point


@dataclass(frozen=True)
class DomainShift:
    """x_t = alpha_t (eta_t x_lr + (1 - eta_t) x0) + sigma_t noise (Eqs. 1 and 2), t from 0 to T/2 - 1.

    The released network was trained on x_theta = (x_t - sigma_t * output) / alpha_t in the L1 norm
    towards x0, which is the same as training its output towards noise + alpha eta (x_lr - x0) / sigma.
    """

    steps: int
    levels: NoiseLevels = field(default_factory=NoiseLevels)
    last: int = released_shift().size - 1
    loss: Literal["L1", "L2"] = "L1"

    def state(self, point: Point) -> Tensor:
        """Return the state at a network time; at 0 it keeps a little noise."""
        alpha, sigma, eta = self._at(point.level)
        return alpha * (eta * point.x_lr + (1.0 - eta) * point.x0) + sigma * point.noise

    def target(self, point: Point) -> Tensor:
        """Return the noise and the shift together, so that the DDPM inversion of the state is x0."""
        alpha, sigma, eta = self._at(point.level)
        return point.noise + alpha * eta / sigma * (point.x_lr - point.x0)

    def time(self, level: int) -> float:
        """Return the network time of a level: the level."""
        return float(level)

    def sample(self, denoise: Denoise, x_lr: Tensor, noise: Noise, /) -> Tensor:
        """Run the released solver of order 3."""
        return dos_sde(self.steps, ORDER, self.levels).sample(denoise, x_lr, noise)

    def _at(self, level: int) -> tuple[float, float, float]:
        """Return alpha, sigma and eta."""
        alpha_bar = float(self.levels.alpha_bar()[level])
        return math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar), float(released_shift()[level])
