"""ColdDiff's process with a blur of latents: no noise, a deterministic degradation.

"Cold Diffusion: Inverting Arbitrary Image Transforms Without Noise", Bansal et al. 2022
(arXiv:2208.09392). The paper on DoSSR names the blur and the latent space, not the blur's strength.
The strength here is ColdDiff's own for its smallest images: a latent has 64 x 64 pixels, CIFAR-10
32 x 32.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .forward import Point, Process

LEVELS = 50
_RADIUS = 5
_LEAST, _GROWTH = (
    0.35,
    0.01,
)  # standard deviations in latent pixels, of the first blur and per level


class Blur(Process):
    """D(x0, s) = G_s * ... * G_1 * x0, with Gaussian kernels G that grow wider (Section 4.1).

    The network restores: R(D(x0, s), s) is trained towards x0 in the L1 norm (Section 3.1).
    """

    @property
    def last(self) -> int:
        """The number of blurs."""
        return LEVELS

    def state(self, point: Point) -> Tensor:
        """Return D(x0, level); neither x_lr nor noise enters."""
        x, states = point.x0, torch.empty_like(point.x0)
        for level in range(int(point.level.max()) + 1):
            x = blurred(x, level - 1, level) if level else x
            states[point.level == level] = x[point.level == level]
        return states

    def target(self, point: Point) -> Tensor:
        """Return x0."""
        return point.x0

    def loss(self, out: Tensor, point: Point) -> Tensor:
        """Return the L1 distance."""
        return F.l1_loss(out, self.target(point))


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
