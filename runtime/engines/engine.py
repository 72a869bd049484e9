"""The interface between the pipeline and whatever runs a network."""

from collections.abc import Mapping
from typing import Protocol

from ..errors import EngineError
from ..tensors import Array, TensorSpec


class Engine(Protocol):
    """Named arrays in, named arrays out. One engine serves one thread."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]: ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]: ...

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network once. The returned arrays are the caller's to keep.

        Raises ValueError where an input does not fit, EngineError where the network fails.
        """
        ...


def check_output(stage: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise EngineError where a network's output does not fit what the manifest says of it."""
    if array.shape != shape:
        raise EngineError(
            f"the {stage} must give {list(shape)} by the manifest, got {list(array.shape)}; "
            "export the checkpoint again"
        )
