"""A system of Table 1: networks with call counts, and the loop around them.

A system defines what runs, a backend how. torch, ONNX Runtime and the counter on the meta device
therefore run the same procedure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Input:
    """One input of a network, with its shape for an image of the benchmark's size."""

    name: str
    shape: tuple[int, ...]
    tokens: int | None = None
    """Vocabulary size of an int64 input; None for float32."""

    @property
    def dtype(self) -> torch.dtype:
        """Boundary dtype, independent of the internal precision."""
        return torch.float32 if self.tokens is None else torch.int64


@dataclass(frozen=True)
class Figures:
    """Millions of parameters and 1e9 multiply-accumulates per call, from the official code.

    For an LR image of 128 x 128 at full width. None where the figure is unknown.
    """

    parameters: float | None = None
    gmac: float | None = None


@dataclass(frozen=True)
class Network:
    """One network of a system, loaded, timed and exported as a whole."""

    name: str
    build: Callable[[], nn.Module]
    """Builds the network on torch's default device, in float32, with initial weights."""

    inputs: tuple[Input, ...]
    """In the order of ``forward``."""

    outputs: tuple[str, ...]
    calls: int
    """Calls per image in the official script, including calls whose results are discarded."""

    official: Figures


@dataclass(frozen=True)
class Component:
    """A summand of the parameters in Table 1; inference may run different networks."""

    name: str
    build: Callable[[], nn.Module]
    parameters: float
    """Millions, from the official code."""


@dataclass(frozen=True)
class Published:
    """A row of the paper's Table 1 (V100; Real200); None where the paper prints no figure."""

    parameters: float | None
    """Millions."""

    latency: float | None
    """Seconds for 128 x 128 to 512 x 512."""

    maniqa: float | None


class Call(Protocol):
    """Run a network by name; takes tensors by name, returns outputs in order."""

    def __call__(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]: ...


class Noise:
    """Standard normal noise, equal on every device and backend."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator, self._device = torch.Generator().manual_seed(seed), device

    def normal(self, *shape: int) -> Tensor:
        """Draw a float32 tensor of this shape."""
        return torch.randn(shape, generator=self._generator).to(self._device)


@dataclass(frozen=True)
class System:
    """A super-resolution system with its official inference procedure."""

    name: str
    """Name on the command line, such as ``dossr-5``."""

    title: str
    networks: tuple[Network, ...]
    upscale: Callable[[Call, Tensor, Noise], Tensor]
    """LR (1, 3, h, w) float32 in [0, 1] -> (1, 3, 4h, 4w) in [0, 1], on the same device."""

    components: tuple[Component, ...]
    published: Published
    gmac: float
    """1e9 multiply-accumulates per image, from the official code; LR 128 x 128."""

    note: str = ""
    """A remark on this row of the table."""

    def network(self, name: str) -> Network:
        """Return the network with this name."""
        return next(network for network in self.networks if network.name == name)
