"""ONNX Runtime on memory that is not its own: addresses are bound, nothing is copied to the host."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...tensors import Array
from .session import open_whole, run_options, running, signature


class Memory(Protocol):
    """The memory whose addresses are bound to a session; one stream orders all that uses it."""

    @property
    def kind(self) -> str:
        """ONNX Runtime's name of it: cuda or cpu."""
        ...

    @property
    def index(self) -> int:
        """Which device of that kind."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """A block whose array operations run in the stream."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array: ...

    def pointer(self, array: Array) -> int: ...

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, owner: object) -> Array:
        """An array over memory that ``owner`` keeps."""
        ...


_MOST_GRAPHS = 8  # sets of shapes recorded: each holds buffers, and memory of the driver
_NO_GRAPH = -1


@dataclass(frozen=True)
class _Fixed:
    """The buffers of one set of shapes, at addresses that a CUDA graph may remember."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    binding: Any
    options: Any


class BoundEngine:
    """An ``.onnx`` file in a session that reads and writes arrays where they lie.

    Inputs that come in the same shapes again run as one CUDA graph from then on. ONNX Runtime
    demands for that: no control flow, no copy between host and device inside the network, and for
    each graph the same shapes and addresses always, which is why inputs and outputs go through
    buffers of ours (a copy within the device, small beside any network). The first run of a shape
    is a plain one: it tells the sizes of the outputs, lets cuDNN choose its algorithms, and is all
    that an image of a size of its own needs. The second run records (two plain runs and the
    recording, inside ONNX Runtime), the third replays. At most 8 sets of shapes are recorded; others
    run plainly. A graph belongs to the thread that recorded it.
    """

    def __init__(
        self, path: Path, provider: str, options: Mapping[str, str], memory: Memory
    ) -> None:
        self._name = path.name
        self._memory = memory
        self._session = open_whole(path, provider, options)
        self.inputs, self.outputs = signature(self._session)
        self._shapes: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
        self._fixed: dict[tuple[Any, ...], _Fixed] = {}

    def run(self, **inputs: Array) -> dict[str, Array]:
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        key = tuple(inputs[name].shape for name in self.inputs)
        has_room = len(self._fixed) < _MOST_GRAPHS
        with running(self._name), self._memory.active():
            if key in self._fixed or (key in self._shapes and has_room):
                return self._replay(key, inputs)
            return self._run(key, inputs)

    def _run(self, key: tuple[Any, ...], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """A plain run; ONNX Runtime makes room for the outputs."""
        binding = self._session.io_binding()
        arrays = {name: _contiguous(inputs[name]) for name in self.inputs}
        for name, array in arrays.items():
            self._bind(binding.bind_input, name, array)
        for name in self.outputs:
            binding.bind_output(name, self._memory.kind, self._memory.index)
        self._session.run_with_iobinding(binding, run_options(_NO_GRAPH))
        outputs = {}
        for (name, spec), value in zip(self.outputs.items(), binding.get_outputs(), strict=True):
            shape = tuple(value.shape())
            # Copied: a recorded graph writes into memory that the session counts as free.
            outputs[name] = self._memory.view(value.data_ptr(), shape, spec.dtype, value).copy()
        self._shapes[key] = {name: array.shape for name, array in outputs.items()}
        return outputs

    def _replay(self, key: tuple[Any, ...], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """A run through the buffers of these shapes; the first records the graph."""
        if key not in self._fixed:
            self._fixed[key] = self._fix(key)
        fixed = self._fixed[key]
        for name, buffer in fixed.inputs.items():
            buffer[...] = inputs[name]
        self._session.run_with_iobinding(fixed.binding, fixed.options)
        return {name: buffer.copy() for name, buffer in fixed.outputs.items()}

    def _fix(self, key: tuple[Any, ...]) -> _Fixed:
        binding = self._session.io_binding()
        inputs = {
            name: self._memory.empty(shape, spec.dtype)
            for (name, spec), shape in zip(self.inputs.items(), key, strict=True)
        }
        outputs = {
            name: self._memory.empty(shape, self.outputs[name].dtype)
            for name, shape in self._shapes[key].items()
        }
        for name, array in inputs.items():
            self._bind(binding.bind_input, name, array)
        for name, array in outputs.items():
            self._bind(binding.bind_output, name, array)
        return _Fixed(inputs, outputs, binding, run_options(len(self._fixed) + 1))

    def _bind(self, bind: Any, name: str, array: Array) -> None:
        memory = self._memory
        bind(name, memory.kind, memory.index, array.dtype.type, array.shape, memory.pointer(array))


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous else array.copy()
