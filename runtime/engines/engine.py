"""The protocol between the pipeline and the library that runs a network."""

from collections.abc import Mapping
from typing import Protocol

from ..errors import EngineError
from ..tensors import Array, TensorSpec


class Engine(Protocol):
    """A network with named arrays as inputs and outputs. One engine serves one thread."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """The inputs by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """The outputs by name."""
        ...

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network once. The returned arrays belong to the caller.

        Raise ValueError if an input does not match, EngineError if the network fails.
        """
        ...


def check_output(stage: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise EngineError if a network's output does not have the shape that the manifest implies."""
    if array.shape != shape:
        raise EngineError(
            f"the {stage} must return {list(shape)} by the manifest, got {list(array.shape)}; "
            "export the checkpoint again"
        )
