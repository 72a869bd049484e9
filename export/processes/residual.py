"""ResShift's process: the residual to x_lr is shifted in, with noise in proportion.

"ResShift: Efficient Diffusion Model for Image Super-resolution by Residual Shifting", Yue et al. 2023.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .forward import Point, Process, at

KAPPA = 2.0
FIRST_ROOT, LAST_ROOT = 0.02, 0.99
"""Square roots of eta at the first time and at the last."""

_POWER = 0.3


@dataclass(frozen=True)
class ResidualShift(Process):
    """x_t = x0 + eta_t (x_lr - x0) + kappa sqrt(eta_t) noise (Eq. 2), kappa = 2.

    The network is trained towards x0 in the L2 norm (Section 3.1, without the weight). ResShift trains
    with as many levels as it samples.
    """

    steps: int

    @property
    def last(self) -> int:
        """The level of the first state; level 0 is x0 itself."""
        return self.steps

    def state(self, point: Point) -> Tensor:
        """Return the state at a level; level 1 is ResShift's first time, and level 0 is x0."""
        root = self._root(point)
        return point.x0 + root**2 * (point.x_lr - point.x0) + KAPPA * root * point.noise

    def reads(self, point: Point) -> Tensor:
        """Return the state divided by its standard deviation on data of unit variance, as in the authors' code."""
        return self.state(point) / (KAPPA**2 * self._root(point) ** 2 + 1.0).sqrt()

    def target(self, point: Point) -> Tensor:
        """Return x0."""
        return point.x0

    def _root(self, point: Point) -> Tensor:
        """Return the square root of eta at each level."""
        return at(np.append(0.0, sqrt_eta(self.steps)), point.level, point.x0)


def sqrt_eta(steps: int) -> NDArray[np.float64]:
    """Return the square roots of eta at times 0 to ``steps - 1``, float64 (Yue et al. 2023, Section 3.2).

    Their logarithm grows as (t / (steps - 1))**0.3.
    """
    part = np.linspace(0.0, 1.0, steps) ** _POWER
    return np.asarray(FIRST_ROOT * (LAST_ROOT / FIRST_ROOT) ** part)
