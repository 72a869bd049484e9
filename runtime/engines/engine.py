"""The protocol between the pipeline and the library that runs a network."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

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


class Place(Protocol):
    """Where an engine's arrays live."""

    def active(self) -> AbstractContextManager[Any]:
        """Return a block whose array operations run there, in order."""
        ...

    def upload(self, array: Array) -> Array:
        """Copy an array from NumPy."""
        ...

    def download(self, array: Array) -> Array:
        """Copy an array to NumPy."""
        ...


def from_host(
    place: Place, run: Callable[..., Mapping[str, Array]]
) -> Callable[..., dict[str, Array]]:
    """Return ``run`` for NumPy arrays: inputs are uploaded, outputs downloaded."""

    def run_there(**inputs: Array) -> dict[str, Array]:
        with place.active():
            found = run(**{name: place.upload(array) for name, array in inputs.items()})
            return {name: place.download(array) for name, array in found.items()}

    return run_there


def check_output(stage: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise EngineError if a network's output does not have the shape that the manifest implies."""
    if array.shape != shape:
        raise EngineError(
            f"the {stage} must return {list(shape)} by the manifest, got {list(array.shape)}; "
            "export the checkpoint again"
        )
