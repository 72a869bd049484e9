"""ResShift's formulation: the residual to x_lr is shifted in, with noise in proportion.

"ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting", Yue et al. 2023.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..procedure import Denoise
from ..resshift import KAPPA, LAST, posterior_steps, sqrt_eta
from ..system import Noise
from .formulation import LAST_TIME, Point


@dataclass(frozen=True)
class ResidualShift:
    """x_t = x0 + eta_t (x_lr - x0) + kappa sqrt(eta_t) noise (Eq. 2), kappa = 2.

    The network is trained towards x0 in the L2 norm (Section 3.1, without the weight). ResShift trains
    with as many levels as it samples.
    """

    steps: int
    loss: Literal["L1", "L2"] = "L2"

    @property
    def last(self) -> int:
        """The level of the first state; level 0 is x0 itself."""
        return self.steps

    def state(self, point: Point) -> Tensor:
        """Return the state at a level; level 1 is ResShift's first time, and level 0 is x0."""
        root = float(sqrt_eta(self.steps)[point.level - 1]) if point.level else 0.0
        residual = point.x_lr - point.x0
        return point.x0 + root**2 * residual + KAPPA * root * point.noise

    def target(self, point: Point) -> Tensor:
        """Return x0."""
        return point.x0

    def time(self, level: int) -> float:
        """Return the network time of a level; levels are spread evenly over the times."""
        return LAST_TIME * level / self.last

    def sample(self, denoise: Denoise, x_lr: Tensor, noise: Noise, /) -> Tensor:
        """Sample the posterior of each state (Section 3.1) from x_lr with noise; the last step returns x0.

        The network reads the state divided by its standard deviation, as in the authors' code.
        """
        x = x_lr + KAPPA * LAST * noise.normal(*x_lr.shape)
        for step in posterior_steps(self.steps):
            x0 = denoise(x / step.scale, self.time(step.time + 1))
            x = step.x * x + step.x0 * x0 + step.noise * noise.normal(*x.shape)
        return x
