"""The memory that a network's intermediate results take at once, counted without computing them."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..runtime.bundle import ActivationRecord
from ..runtime.options import TILE
from ..runtime.tensors import SCALE
from .checkpoint.config import ModelConfig
from .stages import Stage

SIDES = (TILE, 2 * TILE)
"""Two sizes tell the linear share from the quadratic one, which is attention's."""


def count_activations(
    stage: Stage, network: nn.Module, config: ModelConfig
) -> tuple[ActivationRecord, ...]:
    """Return the peak of a stage's intermediate results for a single square image of each of SIDES."""
    return tuple(
        ActivationRecord(side, peak_bytes(network, _shapes(stage, config, side))) for side in SIDES
    )


def peak_bytes(network: nn.Module, shapes: Sequence[Sequence[int]]) -> int:
    """Return the largest sum of tensors that a forward pass in float32 holds at once, without weights.

    ``shapes`` are of its inputs, which count too. Attention counts its scores, as an engine without a
    fused kernel holds them.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), _LiveBytes() as live:
        network(*(torch.empty(tuple(shape)) for shape in shapes))
    return int(live.peak)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's registers subclasses
    """Sums the storages that operators create, from creation until their last tensor is gone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._tensors: dict[int, int] = {}  # number of living tensors by storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it gives."""
        result = func(*args, **(kwargs or {}))
        given = {_key(tensor) for tensor in tree_leaves((args, kwargs)) if torch.is_tensor(tensor)}
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor):
                self._count(tensor, given)
        self.peak = max(self.peak, self._now + _scores(func, args))
        return result

    def _count(self, tensor: torch.Tensor, given: set[int]) -> None:
        key, size = _key(tensor), tensor.untyped_storage().nbytes()
        if key not in self._tensors:
            if key in given:  # a view of a weight
                return
            self._tensors[key] = 0
            self._now += size
        self._tensors[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._tensors[key] -= 1
        if not self._tensors[key]:
            del self._tensors[key]
            self._now -= size


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _scores(func: Any, args: Sequence[Any]) -> int:
    """Return the bytes of the scores of an attention: batch x heads x queries x keys in float32."""
    if "scaled_dot_product" not in str(func):
        return 0
    query, key = args[0], args[1]
    return int(query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * 4)


def _shapes(stage: Stage, config: ModelConfig, side: int) -> list[tuple[int, ...]]:
    high = SCALE * side
    latent = (1, config.vae.latent_channels, high // config.vae.factor, high // config.vae.factor)
    shapes = {
        "lr": (1, 3, side, side),
        "restored": (1, 3, high, high),
        "x": latent,
        "hint": latent,
        "time": (1,),
    }
    return [shapes[name] for name in stage.inputs]
