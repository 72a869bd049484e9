"""What the forward processes have in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

LAST_TIME = 999.0
"""The network time of the state that is farthest from the data."""


@dataclass(frozen=True)
class Point:
    """Training examples on the way from x0; all tensors but ``level`` are (n, c, h, w)."""

    level: Tensor
    """int64 (n,): 0 is nearest to x0, ``Process.last`` farthest."""

    x0: Tensor
    """The high-resolution latent."""

    x_lr: Tensor
    """The latent of the restored image."""

    noise: Tensor
    """Standard normal."""


class Process(ABC):
    """A forward process from x0, with what a network learns on its states."""

    @property
    def first(self) -> int:
        """The first level that is trained. Level 0 is the data itself, unless it keeps noise."""
        return 1

    @property
    @abstractmethod
    def last(self) -> int:
        """The last level."""

    @property
    def pace(self) -> float:
        """Network time per level."""
        return LAST_TIME / self.last

    @abstractmethod
    def state(self, point: Point) -> Tensor:
        """Return the state at each level."""

    def reads(self, point: Point) -> Tensor:
        """Return what the network reads: the state, unless the process scales it."""
        return self.state(point)

    @abstractmethod
    def target(self, point: Point) -> Tensor:
        """Return what the network is trained to return for the state, above level 0."""

    def loss(self, out: Tensor, point: Point) -> Tensor:
        """Return the training loss of the network's output, a scalar; L2 unless the process has another."""
        return F.mse_loss(out, self.target(point))


def at(values: ArrayLike, level: Tensor, like: Tensor) -> Tensor:
    """Return a table's values at each level as (n, 1, 1, 1), in the dtype and on the device of ``like``."""
    return torch.as_tensor(values)[level.cpu()].view(-1, 1, 1, 1).to(like)
