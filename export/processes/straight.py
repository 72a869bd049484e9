"""Rectified flow from x_lr: a straight line.

"Flow Straight and Fast", Liu et al. 2022 (arXiv:2209.03003). "FlowIE: Efficient Image Enhancement via
Rectified Flow", Zhu et al. 2024 (arXiv:2406.00508), starts from noise; the paper on DoSSR starts from
x_lr instead (Appendix C.2).
"""

from torch import Tensor

from .forward import LAST_TIME, Point, Process


class Straight(Process):
    """x_t = t x_lr + (1 - t) x0, t from 0 to 1 (Liu et al. 2022, Section 2, with time reversed).

    The network is trained towards the velocity x0 - x_lr in the L2 norm (their least-squares problem).
    """

    @property
    def last(self) -> int:
        """The last network time; levels are network times, as in FlowIE's code."""
        return int(LAST_TIME)

    def state(self, point: Point) -> Tensor:
        """Return the place on the line at t = level / last; no noise enters."""
        part = point.level.to(point.x0).view(-1, 1, 1, 1) / self.last
        return part * point.x_lr + (1.0 - part) * point.x0

    def target(self, point: Point) -> Tensor:
        """Return the velocity towards x0, equal at all levels."""
        return point.x0 - point.x_lr
