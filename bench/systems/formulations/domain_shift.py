"""DoSSR's formulation, as the released weights were trained.

"Taming Diffusion Prior for Image Super-Resolution with Domain Shift SDEs", Cui et al. 2024.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from ....solvers import NoiseLevels, released_shift
from ..dossr import ORDER, dos_sde
from ..procedure import Denoise
from ..system import Noise


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

    def state(self, level: int, x0: Tensor, x_lr: Tensor, noise: Tensor) -> Tensor:
        """Return the state at a network time; at 0 it keeps a little noise."""
        alpha, sigma = self._amplitudes(level)
        eta = float(released_shift()[level])
        return alpha * (eta * x_lr + (1.0 - eta) * x0) + sigma * noise

    def target(self, level: int, state: Tensor, x0: Tensor, x_lr: Tensor) -> Tensor:
        """Return the noise and the shift together."""
        alpha, sigma = self._amplitudes(level)
        return (state - alpha * x0) / sigma

    def time(self, level: int) -> float:
        """Return the network time of a level: the level."""
        return float(level)

    def sample(self, denoise: Denoise, x_lr: Tensor, noise: Noise) -> Tensor:
        """Run the released solver of order 3."""
        return dos_sde(self.steps, ORDER, self.levels).sample(denoise, x_lr, noise)

    def _amplitudes(self, level: int) -> tuple[float, float]:
        alpha_bar = float(self.levels.alpha_bar()[level])
        return float(np.sqrt(alpha_bar)), float(np.sqrt(1.0 - alpha_bar))
