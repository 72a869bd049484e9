"""What the processes of Table 5 have in common."""

from typing import Literal, Protocol

from torch import Tensor

from ..procedure import Denoise
from ..system import Noise

LAST_TIME = 999.0
"""The network time of the state that is farthest from the data."""


class Formulation(Protocol):
    """A forward process from x0 to x_lr, its training target and its sampler.

    x0 is the high-resolution latent, x_lr that of the restored image, noise standard normal; all are
    (n, 4, h, w). A process has the levels 0, nearest to x0, to ``last``.
    """

    last: int
    loss: Literal["L1", "L2"]
    """Norm of the training loss between the network's output and the target."""

    def state(self, level: int, x0: Tensor, x_lr: Tensor, noise: Tensor) -> Tensor:
        """Return the state of the forward process at a level."""
        ...

    def target(self, level: int, state: Tensor, x0: Tensor, x_lr: Tensor) -> Tensor:
        """Return what the network is trained to return for a state at a level above 0."""
        ...

    def time(self, level: int) -> float:
        """Return the network time of a level."""
        ...

    def sample(self, denoise: Denoise, x_lr: Tensor, noise: Noise) -> Tensor:
        """Return the latent that the sampler reaches from x_lr."""
        ...
