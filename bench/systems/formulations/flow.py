"""FlowIE's rectified flow from x_lr to x0 in one step.

"FlowIE: Efficient Image Enhancement via Rectified Flow", Zhu et al. 2024 (arXiv:2406.00508).
"""

from dataclasses import dataclass

from torch import Tensor

from ....export.processes.forward import LAST_TIME
from ....export.processes.straight import Straight
from ..procedure import Denoise
from ..system import Noise


@dataclass(frozen=True)
class RectifiedFlow(Straight):
    """The straight line with its sampler."""

    steps: int = 1

    def sample(self, denoise: Denoise, x_lr: Tensor, _noise: Noise, /) -> Tensor:
        """Run Euler steps of equal length from x_lr; FlowIE's fast setting is one."""
        x = x_lr
        for step in range(self.steps):
            x = x + denoise(x, LAST_TIME * (1.0 - step / self.steps)) / self.steps
        return x
