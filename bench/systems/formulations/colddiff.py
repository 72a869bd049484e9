"""ColdDiff with a blur of latents: no noise, a deterministic degradation and its inversion.

"Cold Diffusion: Inverting Arbitrary Image Transforms Without Noise", Bansal et al. 2022
(arXiv:2208.09392). The paper on DoSSR names the blur and the latent space, not the blur's strength.
The strength here is ColdDiff's own for its smallest images: a latent has 64 x 64 pixels, CIFAR-10
32 x 32.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..procedure import Denoise
from ..system import Noise
from .formulation import LAST_TIME, Point

LEVELS = 50
_RADIUS = 5
_LEAST, _GROWTH = (
    0.35,
    0.01,
)  # standard deviations in latent pixels, of the first blur and per level


@dataclass(frozen=True)
class ColdDiff:
    """D(x0, s) = G_s * ... * G_1 * x0, with Gaussian kernels G that grow wider (Section 4.1).

    The network restores: R(D(x0, s), s) is trained towards x0 in the L1 norm (Section 3.1).
    """

    steps: int
    last: int = LEVELS
    loss: Literal["L1", "L2"] = "L1"

    def state(self, point: Point) -> Tensor:
        """Return D(x0, level); neither x_lr nor noise enters."""
        return blurred(point.x0, 0, point.level)

    def target(self, point: Point) -> Tensor:
        """Return x0."""
        return point.x0

    def time(self, level: int) -> float:
        """Return the network time of a level; levels are spread evenly over the times."""
        return LAST_TIME * level / self.last

    def sample(self, denoise: Denoise, x_lr: Tensor, _noise: Noise, /) -> Tensor:
        """Run Algorithm 2 from x_lr: x <- x - D(R, s) + D(R, s'), s' the next level.

        The sampler is exact if x_lr is D(x0, last). The restored image of a real photograph is not.
        """
        x = x_lr
        stride = self.last // self.steps
        for level in range(self.last, 0, -stride):
            near = blurred(denoise(x, self.time(level)), 0, level - stride)
            x = x - blurred(near, level - stride, level) + near
        return x


def blurred(x: Tensor, first: int, last: int) -> Tensor:
    """Apply the blurs after level ``first`` up to level ``last``; edges are reflected.

    The kernels are 11 x 11. The blur to level s has standard deviation 0.35 + (s - 1) / 100.
    """
    for level in range(first, last):
        kernel = _kernel(_LEAST + _GROWTH * level, x)
        padded = F.pad(x, (_RADIUS,) * 4, mode="reflect")
        x = F.conv2d(padded, kernel, groups=x.shape[1])
    return x


def _kernel(std: float, like: Tensor) -> Tensor:
    """Return a normalised Gaussian, one for each channel."""
    place = torch.arange(-_RADIUS, _RADIUS + 1, device=like.device, dtype=like.dtype)
    line = torch.exp(-0.5 * (place / std) ** 2)
    line = line / line.sum()
    return torch.outer(line, line).expand(like.shape[1], 1, -1, -1)
