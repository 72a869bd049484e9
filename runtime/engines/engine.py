"""The interface between the pipeline and whatever runs a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Array = NDArray[Any]
Axis = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(max_length=255)]
"""A fixed size, or the name of a size that may vary."""


_LONGEST = 500  # characters of an error


def one_line(message: str) -> str:
    """A message on one line, cut in its middle where it is very long."""
    line = " ".join(message.split())
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


class EngineError(RuntimeError):
    """A network could not be opened or run."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class TensorSpec:
    """What one input or output of a network must look like."""

    name: str
    dtype: str
    """NumPy's name of it, such as float32."""

    shape: tuple[Axis, ...]

    def check(self, array: Array) -> None:
        """Raise ValueError unless the array fits."""
        fits = array.dtype == np.dtype(self.dtype) and array.ndim == len(self.shape)
        if not fits or any(
            isinstance(axis, int) and axis != size
            for axis, size in zip(self.shape, array.shape, strict=True)
        ):
            wanted = ", ".join(str(axis) for axis in self.shape)
            raise ValueError(
                f"tensor '{self.name}' must be {self.dtype}[{wanted}], "
                f"got {array.dtype}{list(array.shape)}"
            )


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
