"""The roofline: no layer is faster than its arithmetic, nor than its memory traffic.

A layer takes at least max(multiply-accumulates / peak rate, bytes / bandwidth), a network at least
the sum over its layers. Caches that keep a result for the next layer, and convolutions with fewer
multiplications than the definition, can beat the bound.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .devices import Device
from .work import BYTES, Data, Layer, Work

BACKENDS = ("engine", "torch")
"""``engine``: norms, activations and copies are fused into the layer before them and cost nothing.
``torch``: each is a layer of its own, which reads and writes memory."""


@dataclass(frozen=True)
class Roofline:
    """What a device can do at most, in one precision."""

    macs_per_s: float
    bytes_per_s: float
    width: int
    """Bytes of a number."""

    is_fused: bool
    """Whether layers without multiply-accumulates cost nothing."""

    def seconds(self, layer: Layer) -> float:
        """Return the least time of a layer."""
        if self.is_fused and not layer.macs:
            return 0.0
        return max(self.compute(layer), self.traffic(layer))

    def compute(self, layer: Layer) -> float:
        """Return the least time of a layer's arithmetic."""
        return layer.macs / self.macs_per_s

    def traffic(self, layer: Layer) -> float:
        """Return the least time of a layer's memory traffic."""
        return layer.traffic.bytes(self.width) / self.bytes_per_s


@dataclass(frozen=True)
class Bound:
    """A network's least time for an image, all calls together."""

    network: str
    calls: int
    gmac: float
    """Of a call."""

    seconds: float
    memory_bound_share: float
    """The share of ``seconds`` in layers that wait for memory."""


def roofline(device: Device, precision: str, backend: str) -> Roofline:
    """Return a device's roofline from its published figures.

    Raises ValueError, which names the figure, where one is missing.
    """
    if reason := device.missing(precision):
        raise ValueError(reason)
    assert device.bandwidth is not None
    return Roofline(
        macs_per_s=device.rates[precision].value * 1e12 / 2,
        bytes_per_s=device.bandwidth.value * 1e9,
        width=BYTES[precision],
        is_fused=backend == "engine",
    )


def bound(work: Work, line: Roofline) -> Bound:
    """Return the least time of a network."""
    times = [(layer, count * line.seconds(layer)) for layer, count in work.layers.items()]
    seconds = sum(time for _, time in times)
    waiting = sum(time for layer, time in times if line.traffic(layer) > line.compute(layer))
    share = waiting / seconds if seconds else 0.0
    return Bound(work.name, work.calls, work.gmac, work.calls * seconds, share)


def memory(works: Sequence[Work], width: int) -> int:
    """Return the bytes of all weights and of the largest intermediate results of any network."""
    weights: Data = sum((work.weights for work in works), Data())
    return weights.bytes(width) + max(work.activations.bytes(width) for work in works)


def total(bounds: Iterable[Bound]) -> tuple[float, float]:
    """Return the seconds of an image, and the share of them in layers that wait for memory."""
    found = list(bounds)
    seconds = sum(each.seconds for each in found)
    waiting = sum(each.seconds * each.memory_bound_share for each in found)
    return seconds, waiting / seconds if seconds else 0.0
