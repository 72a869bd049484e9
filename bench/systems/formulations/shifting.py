"""ResShift's formulation with its sampler, on DoSSR's network.

"ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting", Yue et al. 2023.
"""

from dataclasses import dataclass

from torch import Tensor

from ....export.processes.residual import KAPPA, LAST_ROOT, ResidualShift
from ..procedure import Denoise
from ..resshift import posterior_steps
from ..system import Noise


@dataclass(frozen=True)
class ResShift(ResidualShift):
    """The shift of the residual with its sampler."""

    def sample(self, denoise: Denoise, x_lr: Tensor, noise: Noise, /) -> Tensor:
        """Sample the posterior of each state (Section 3.1) from x_lr with noise; the last step returns x0.

        The network reads the state divided by its standard deviation, as in the authors' code.
        """
        x = x_lr + KAPPA * LAST_ROOT * noise.normal(*x_lr.shape)
        for step in posterior_steps(self.steps):
            x0 = denoise(x / step.scale, (step.time + 1) * self.pace)
            x = step.x * x + step.x0 * x0 + step.noise * noise.normal(*x.shape)
        return x
