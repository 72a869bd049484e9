"""What a system is here: networks with call counts, and the loop around them.

A system says what is run, a backend how. So torch, ONNX Runtime and the counter on the meta device
all run the same thing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Input:
    """One input of a network, as an image of the benchmark's size makes it."""

    name: str
    shape: tuple[int, ...]
    tokens: int | None = None
    """For int64 inputs the size of their vocabulary; None for float32."""

    @property
    def dtype(self) -> torch.dtype:
        """What is passed in or out, whatever the precision inside."""
        return torch.float32 if self.tokens is None else torch.int64


@dataclass(frozen=True)
class Figures:
    """Millions of parameters and 1e9 multiply-accumulates per call, read in the official code.

    For an LR image of 128 x 128 at full width. None where nothing was read.
    """

    parameters: float | None = None
    gmac: float | None = None


@dataclass(frozen=True)
class Network:
    """One network of a system: what is loaded, timed and exported as a whole."""

    name: str
    build: Callable[[], nn.Module]
    """On torch's default device, in float32, with whatever weights the constructor gives."""

    inputs: tuple[Input, ...]
    """In the order of forward()."""

    outputs: tuple[str, ...]
    calls: int
    """How often an image needs it, in the official script, work that is thrown away included."""

    official: Figures


@dataclass(frozen=True)
class Component:
    """A summand of the parameters that Table 1 prints, which need not be what inference runs."""

    name: str
    build: Callable[[], nn.Module]
    parameters: float
    """Millions, read in the official code."""


@dataclass(frozen=True)
class Published:
    """A row of the paper's Table 1 (V100; Real200) or, where None, what the paper does not print."""

    parameters: float | None
    """Millions."""

    latency: float | None
    """Seconds for 128 x 128 to 512 x 512."""

    maniqa: float | None


class Call(Protocol):
    """Runs a network of the system by name; tensors in by name, out in the order of its outputs."""

    def __call__(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]: ...


class Noise:
    """Standard normal draws, the same on every device and backend."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator, self._device = torch.Generator().manual_seed(seed), device

    def normal(self, *shape: int) -> Tensor:
        """float32 of this shape."""
        return torch.randn(shape, generator=self._generator).to(self._device)


@dataclass(frozen=True)
class System:
    """A super-resolution system with its official inference procedure."""

    name: str
    """As the command line has it, such as ``dossr-5``."""

    title: str
    networks: tuple[Network, ...]
    upscale: Callable[[Call, Tensor, Noise], Tensor]
    """LR (1, 3, h, w) float32 in [0, 1] -> (1, 3, 4h, 4w) in [0, 1], on the same device."""

    components: tuple[Component, ...]
    published: Published
    gmac: float
    """1e9 multiply-accumulates per image, read in the official code; LR 128 x 128."""

    note: str = ""
    """What a reader of the table must know about this row."""

    def network(self, name: str) -> Network:
        """The network of this name."""
        return next(network for network in self.networks if network.name == name)
