"""When two networks are the same work, so that one of them need not be measured."""

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ..systems.system import Network
from .count import Count, count_network


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
