"""Parameters and multiply-accumulates, counted on the meta device: seconds, and no weights in memory."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..systems.system import Network, Noise, System


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


class Rehearsal:
    """Stands in for a backend: checks what the loop passes, counts the calls, gives zeros."""

    def __init__(self, system: System, counts: dict[str, Count]) -> None:
        self._system, self._counts = system, counts
        self.calls = dict.fromkeys(counts, 0)

    def __call__(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
        spec = self._system.network(network)
        found = {name: (tuple(t.shape), t.dtype) for name, t in inputs.items()}
        wanted = {wish.name: (wish.shape, wish.dtype) for wish in spec.inputs}
        if found != wanted:
            raise ValueError(f"{self._system.name} passes {network} {found}, not {wanted}")
        self.calls[network] += 1
        device = next(iter(inputs.values())).device
        return tuple(torch.zeros(shape, device=device) for shape in self._counts[network].outputs)


def rehearse(system: System, counts: dict[str, Count], lr: Tensor) -> tuple[Tensor, dict[str, int]]:
    """Run a system's loop around networks that do nothing: the image's shape and the calls made."""
    rehearsal = Rehearsal(system, counts)
    with torch.no_grad():
        return system.upscale(rehearsal, lr, Noise(0, lr.device)), rehearsal.calls
