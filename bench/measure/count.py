"""Count parameters and multiply-accumulates on the meta device: takes seconds and no memory for weights."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from ..systems.system import Network, System


@dataclass(frozen=True)
class Count:
    """Counts of one network."""

    parameters: int
    gmac: float
    """1e9 multiply-accumulates per call: convolutions, linear layers and matrix products, including
    attention; without norms and activations."""

    outputs: tuple[tuple[int, ...], ...]
    """Shapes of the outputs."""


def count_network(network: Network) -> Count:
    """Build a network on the meta device and run it there once."""
    with torch.device("meta"):
        module = network.build().eval()
        inputs = [torch.empty(spec.shape, dtype=spec.dtype) for spec in network.inputs]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = module(*inputs)
    outputs = (found,) if isinstance(found, Tensor) else found
    shapes = tuple(tuple(tensor.shape) for tensor in outputs)
    return Count(parameters(module), counter.get_total_flops() / 2e9, shapes)


def count_image(networks: Iterable[Network]) -> float:
    """Return 1e9 multiply-accumulates per image: the sum over all calls of all networks."""
    return sum(network.calls * count_network(network).gmac for network in networks)


def count_components(system: System) -> dict[str, int]:
    """Count the parameters of each summand of the figure in Table 1."""
    with torch.device("meta"):
        return {part.name: parameters(part.build()) for part in system.components}


def parameters(module: nn.Module) -> int:
    """Count the parameters of a module, shared ones once, without buffers."""
    return sum(parameter.numel() for parameter in module.parameters())


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hash every operation inside the block, with its shapes and settings."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.digest = hashlib.sha256()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        seen = tree_map(_described, (args, kwargs or {}))
        self.digest.update(f"{func} {seen}\n".encode())
        return func(*args, **(kwargs or {}))


def count_and_fingerprint(network: Network) -> tuple[Count, str]:
    """Count a network, and return a fingerprint of the work that it does.

    The fingerprint hashes every operation of building and one call on the meta device, in order.
    Networks with equal fingerprints differ in the values of their weights at most.
    """
    with _Operations() as operations:
        count = count_network(network)
    return count, operations.digest.hexdigest()[:16]


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{value.dtype}{list(value.shape)}"
    return "generator" if isinstance(value, torch.Generator) else value
