"""FlowIE's rectified flow: a straight line from x_lr to x0 in one step.

"FlowIE: Efficient Image Enhancement via Rectified Flow", Zhu et al. 2024 (arXiv:2406.00508), after
"Flow Straight and Fast", Liu et al. 2022 (arXiv:2209.03003). FlowIE starts from noise; the paper on
DoSSR starts from x_lr instead (Appendix C.2).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..procedure import Denoise
from ..system import Noise
from .formulation import LAST_TIME, Point


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = t x_lr + (1 - t) x0, t from 0 to 1 (Liu et al. 2022, Section 2, with time reversed).

    The network is trained towards the velocity x0 - x_lr in the L2 norm (their least-squares problem).
    """

    steps: int = 1
    last: int = int(LAST_TIME)
    loss: Literal["L1", "L2"] = "L2"

    def state(self, point: Point) -> Tensor:
        """Return the place on the line at t = level / last; no noise enters."""
        part = point.level / self.last
        return part * point.x_lr + (1.0 - part) * point.x0

    def target(self, point: Point) -> Tensor:
        """Return the velocity towards x0, equal at all levels."""
        return point.x0 - point.x_lr

    def time(self, level: int) -> float:
        """Return the network time of a level, as in FlowIE's code: the level."""
        return float(level)

    def sample(self, denoise: Denoise, x_lr: Tensor, _noise: Noise, /) -> Tensor:
        """Run Euler steps of equal length from x_lr; FlowIE's fast setting is one."""
        x = x_lr
        for step in range(self.steps):
            x = x + denoise(x, LAST_TIME * (1.0 - step / self.steps)) / self.steps
        return x
