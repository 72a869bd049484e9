"""ColdDiff with a blur of latents: Algorithm 2 of "Cold Diffusion", Bansal et al. 2022 (arXiv:2208.09392)."""

from dataclasses import dataclass

from torch import Tensor

from ....export.processes.blur import Blur, blurred
from ..procedure import Denoise
from ..system import Noise


@dataclass(frozen=True)
class ColdDiff(Blur):
    """The blur of latents with its sampler."""

    steps: int

    def sample(self, denoise: Denoise, x_lr: Tensor, _noise: Noise, /) -> Tensor:
        """Run Algorithm 2 from x_lr: x <- x - D(R, s) + D(R, s'), s' the next level.

        The sampler is exact if x_lr is D(x0, last). The restored image of a real photograph is not.
        """
        x = x_lr
        stride = self.last // self.steps
        for level in range(self.last, 0, -stride):
            near = blurred(denoise(x, level * self.pace), 0, level - stride)
            x = x - blurred(near, level - stride, level) + near
        return x
