"""What the processes of Table 5 have in common."""

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from ..procedure import Denoise
from ..system import Noise

LAST_TIME = 999.0
"""The network time of the state that is farthest from the data."""


@dataclass(frozen=True)
class Point:
    """A training example on the way from x0 to x_lr; all tensors are (n, 4, h, w)."""

    level: int
    """0 is nearest to x0, ``Formulation.last`` farthest."""

    x0: Tensor
    """The high-resolution latent."""

    x_lr: Tensor
    """The latent of the restored image."""

    noise: Tensor
    """Standard normal."""


class Formulation(Protocol):
    """A forward process from x0 to x_lr, its training target and its sampler."""

    @property
    def last(self) -> int:
        """The last level."""
        ...

    @property
    def loss(self) -> Literal["L1", "L2"]:
        """Norm of the training loss between the network's output and the target."""
        ...

    def state(self, point: Point) -> Tensor:
        """Return the state of the forward process, which the network reads."""
        ...

    def target(self, point: Point) -> Tensor:
        """Return what the network is trained to return for that state, above level 0."""
        ...

    def time(self, level: int) -> float:
        """Return the network time of a level."""
        ...

    def sample(self, denoise: Denoise, x_lr: Tensor, noise: Noise, /) -> Tensor:
        """Return the latent that the sampler reaches from x_lr."""
        ...
