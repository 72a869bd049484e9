"""ONNX Runtime with I/O binding: inputs and outputs stay in device memory."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...tensors import Array
from .session import open_whole, run_options, running, signature


class Memory(Protocol):
    """The memory that is bound to a session; one stream orders all operations on it."""

    @property
    def kind(self) -> str:
        """Its name in ONNX Runtime: cuda or cpu."""
        ...

    @property
    def index(self) -> int:
        """The index of the device."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """Return a block whose array operations run in the stream."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Allocate an array."""
        ...

    def pointer(self, array: Array) -> int:
        """Return the address of an array."""
        ...

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, owner: object) -> Array:
        """Return an array over memory that ``owner`` holds."""
        ...


_MOST_GRAPHS = 8  # recorded sets of shapes; each holds buffers and driver memory
_NO_GRAPH = -1


@dataclass(frozen=True)
class _Fixed:
    """The buffers of one set of shapes, at fixed addresses for a CUDA graph."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    binding: Any
    options: Any


class BoundEngine:
    """An ``.onnx`` file in a session that reads and writes device memory.

    Repeated input shapes run as one CUDA graph. ONNX Runtime then requires a network without control
    flow or copies to the host, and fixed shapes and addresses. Inputs and outputs therefore pass
    through fixed buffers, a small copy within the device.

    The first run of a shape is a plain one, which gives the sizes of the outputs and lets cuDNN
    choose its algorithms. The second run records the graph (two plain runs and the recording, inside
    ONNX Runtime), the third replays it. At most 8 sets of shapes are recorded; others run plainly. A
    graph belongs to the thread that recorded it.
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
        """Run the network on arrays of the device."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        key = tuple(inputs[name].shape for name in self.inputs)
        has_room = len(self._fixed) < _MOST_GRAPHS
        with running(self._name), self._memory.active():
            if key in self._fixed or (key in self._shapes and has_room):
                return self._replay(key, inputs)
            return self._run(key, inputs)

    def _run(self, key: tuple[Any, ...], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run without a graph; ONNX Runtime allocates the outputs."""
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
            # Copied, because a recorded graph writes to memory that the session considers free.
            outputs[name] = self._memory.view(value.data_ptr(), shape, spec.dtype, value).copy()
        self._shapes[key] = {name: array.shape for name, array in outputs.items()}
        return outputs

    def _replay(self, key: tuple[Any, ...], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run through the buffers of these shapes; the first call records the graph."""
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
