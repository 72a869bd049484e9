"""Count the work of a network layer by layer on the meta device: arithmetic, memory traffic, memory.

A layer is one operation of torch that moves data; fused attention is one layer. Each operand is
counted once: weights and inputs are read, results are written.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ..measure.count import parameters
from ..systems.system import Network

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Bytes of a number, by precision."""


@dataclass(frozen=True)
class Data:
    """An amount of data: numbers whose size depends on the precision, and bytes of indices and masks."""

    numbers: int = 0
    fixed: int = 0

    def __add__(self, other: "Data") -> "Data":
        return Data(self.numbers + other.numbers, self.fixed + other.fixed)

    def __sub__(self, other: "Data") -> "Data":
        return Data(self.numbers - other.numbers, self.fixed - other.fixed)

    def bytes(self, width: int) -> int:
        """Return the bytes if a number takes ``width`` of them."""
        return self.numbers * width + self.fixed


@dataclass(frozen=True)
class Layer:
    """One operation; without multiply-accumulates it is a norm, an activation or a copy."""

    macs: int
    traffic: Data
    """Operands read and results written."""


@dataclass(frozen=True)
class Work:
    """What one call of a network takes, and how often it is called for an image."""

    name: str
    calls: int
    parameters: int
    weights: Data
    """Parameters and buffers."""

    activations: Data
    """The largest sum of intermediate results that are alive at once, inputs included."""

    layers: Mapping[Layer, int]
    """How often each layer occurs in a call."""

    @property
    def gmac(self) -> float:
        """1e9 multiply-accumulates of a call."""
        return sum(layer.macs * count for layer, count in self.layers.items()) / 1e9


def count_work(network: Network) -> Work:
    """Build a network on the meta device and count one call there; this allocates no weights."""
    with torch.device("meta"):
        module = network.build().eval()
        inputs = [torch.empty(spec.shape, dtype=spec.dtype) for spec in network.inputs]
        held = [*module.parameters(), *module.buffers()]
        operations = _Operations(held, inputs)
        with torch.no_grad(), operations, _Attention(operations):
            module(*inputs)
    return Work(
        name=network.name,
        calls=network.calls,
        parameters=parameters(module),
        weights=_total(_storages(held)),
        activations=operations.peak,
        layers=operations.layers,
    )


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record every operation, and the intermediate results that are alive."""

    def __init__(self, held: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: Counter[Layer] = Counter()
        self._known = set(_storages(held))
        self._alive = self.peak = Data()
        self._fused: int | None = None
        self._follow(inputs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        results = func(*args, **kwargs)
        macs = _macs(func, args, kwargs, results)
        if self._fused is not None:
            self._fused += macs
        else:
            self._record(macs, (args, kwargs), results, is_written=func._schema.is_mutable)
        return results

    @contextmanager
    def fused(self, operands: Any) -> Iterator[Callable[[Any], None]]:
        """Record the operations inside as one layer: nothing between them reaches the memory.

        The caller passes the results to the function that is yielded.
        """
        found: list[Any] = []
        self._fused = 0
        yield found.append
        macs, self._fused = self._fused, None
        self._record(macs, operands, found)

    def _record(self, macs: int, operands: Any, results: Any, is_written: bool = False) -> None:
        read, written = _tensors(operands), _tensors(results)
        is_view = set(_storages(written)) <= set(_storages(read)) and not is_written
        if read and not is_view:
            traffic = sum(map(_amount, (*read, *written)), Data())
            self.layers[Layer(macs, traffic)] += 1
        self._follow(written)

    def _follow(self, tensors: Iterable[Tensor]) -> None:
        """Count storages until they are freed."""
        for key, (storage, amount) in _storages(tensors).items():
            if key not in self._known:
                self._known.add(key)
                self._alive += amount
                weakref.finalize(storage, self._free, key, amount)
        self.peak = max(self.peak, self._alive, key=lambda data: data.bytes(BYTES["fp32"]))

    def _free(self, key: int, amount: Data) -> None:
        self._known.discard(key)
        self._alive -= amount


class _Attention(TorchFunctionMode):
    """Make torch's fused attention one layer; on the meta device it is computed in parts."""

    def __init__(self, operations: _Operations) -> None:
        super().__init__()
        self._operations = operations

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        with self._operations.fused((args, kwargs)) as finished:
            result = func(*args, **(kwargs or {}))
            finished(result)
        return result


def _macs(func: Any, args: Any, kwargs: Any, results: Any) -> int:
    count = flop_registry.get(func._overloadpacket)
    return int(count(*args, **kwargs, out_val=results)) // 2 if count else 0


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _amount(tensor: Tensor) -> Data:
    """Return what an operation moves of a tensor: a repeated element once."""
    storage = tensor.untyped_storage().nbytes() // tensor.element_size()
    numbers = min(tensor.numel(), storage)
    if tensor.is_floating_point():
        return Data(numbers=numbers)
    return Data(fixed=numbers * tensor.element_size())


def _storages(tensors: Iterable[Tensor]) -> dict[int, tuple[Any, Data]]:
    """Return each storage with its size, by address."""
    found = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if tensor.is_floating_point():
            amount = Data(numbers=storage.nbytes() // tensor.element_size())
        else:
            amount = Data(fixed=storage.nbytes())
        found[storage._cdata] = (storage, amount)
    return found


def _total(storages: Mapping[int, tuple[Any, Data]]) -> Data:
    return sum((amount for _, amount in storages.values()), Data())
