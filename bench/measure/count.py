"""Parameters and multiply-accumulates, counted on the meta device: seconds, and no weights in memory."""

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
    """What one network has and one call of it computes."""

    parameters: int
    gmac: float
    """1e9 multiply-accumulates of convolutions, linear layers and matrix products, those of
    attention included; norms and activations are not counted."""

    outputs: tuple[tuple[int, ...], ...]
    """Shapes."""


def count_network(network: Network) -> Count:
    """Build a network on the meta device and run it once there."""
    with torch.device("meta"):
        module = network.build().eval()
        inputs = [torch.empty(spec.shape, dtype=spec.dtype) for spec in network.inputs]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = module(*inputs)
    outputs = (found,) if isinstance(found, Tensor) else found
    shapes = tuple(tuple(tensor.shape) for tensor in outputs)
    return Count(parameters(module), counter.get_total_flops() / 2e9, shapes)


def count_image(networks: Iterable[Network]) -> float:
    """1e9 multiply-accumulates of an image: every network as often as it is called."""
    return sum(network.calls * count_network(network).gmac for network in networks)


def count_components(system: System) -> dict[str, int]:
    """Parameters of each summand of the figure that Table 1 prints."""
    with torch.device("meta"):
        return {part.name: parameters(part.build()) for part in system.components}


def parameters(module: nn.Module) -> int:
    """Of a module, shared ones once; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Hashes every operation that runs inside it, with the shapes and settings that it is given."""

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
    """What a network counts, and a name for what it does.

    The name is a hash of every operation that building and one call make on the meta device, in
    order: networks of one name differ in their weights' values at most.
    """
    with _Operations() as operations:
        count = count_network(network)
    return count, operations.digest.hexdigest()[:16]


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{value.dtype}{list(value.shape)}"
    return "generator" if isinstance(value, torch.Generator) else value
