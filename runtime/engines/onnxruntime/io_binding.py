"""ONNX Runtime with I/O binding: inputs and outputs stay in device memory."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...errors import EngineError
from ...tensors import Array, TensorSpec
from .session import Provider, Signature, open_whole, run_options, running, signature


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


_NO_GRAPH, _GRAPH = -1, 1  # ONNX Runtime's numbers of a plain run and of a recorded one


class BoundEngine:
    """An ``.onnx`` file in a session that reads and writes device memory.

    A session is for one set of input shapes: with fixed sizes ONNX Runtime computes every shape when it
    opens the file, so that no node is left on the CPU and convolutions keep their channels last. Other
    shapes open another session in its place, because each holds all weights; tiles keep one shape. A
    network without variable axes is opened at once, any other when it runs.
    """

    def __init__(
        self, path: Path, signature: Signature, provider: Provider, memory: Memory
    ) -> None:
        self.inputs, self.outputs = signature
        self._path, self._provider, self._memory = path, provider, memory
        self._held: tuple[dict[str, int], _BoundSession] | None = None
        axes = (axis for spec in self.inputs.values() for axis in spec.shape)
        if not any(isinstance(axis, str) for axis in axes):
            self._held = {}, self._open({})

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on arrays of the device."""
        sizes = _axis_sizes(self.inputs.values(), inputs)
        with self._memory.active():
            if self._held is None or self._held[0] != sizes:
                self._held = None  # released first, so that the weights are never there twice
                self._held = sizes, self._open(sizes)
            with running(self._path.name):
                return self._held[1].run(inputs)

    def _open(self, sizes: Mapping[str, int]) -> "_BoundSession":
        session = open_whole(self._path, self._provider, sizes)
        for wanted, found in zip((self.inputs, self.outputs), signature(session), strict=True):
            if _kinds(wanted) != _kinds(found):
                raise EngineError(
                    f"the inputs/outputs of {self._path} do not match the manifest; "
                    "export the checkpoint again"
                )
        return _BoundSession(session, (self.inputs, self.outputs), self._memory)


def _axis_sizes(specs: Iterable[TensorSpec], arrays: Mapping[str, Array]) -> dict[str, int]:
    """Return the size of every variable axis; raise ValueError if an array does not match."""
    sizes: dict[str, int] = {}
    for spec in specs:
        array = arrays[spec.name]
        spec.check(array)
        for axis, size in zip(spec.shape, array.shape, strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, size) != size:
                raise ValueError(
                    f"axis '{axis}' of tensor '{spec.name}' must be {sizes[axis]} as in the tensors "
                    f"before it, got {size}"
                )
    return sizes


@dataclass(frozen=True)
class _Buffers:
    """Inputs and outputs at fixed addresses, and their binding."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    binding: Any


class _BoundSession:
    """A session of one set of shapes, recorded as one CUDA graph.

    ONNX Runtime requires for that a network without control flow or copies to the host, and fixed
    addresses. Inputs and outputs therefore pass through fixed buffers, a small copy within the device.

    The first run is a plain one, which gives the shapes of the outputs and lets cuDNN choose its
    algorithms. The second run records the graph (two plain runs and the recording, inside ONNX Runtime),
    the third replays it. The graph belongs to the thread that recorded it.
    """

    def __init__(self, session: Any, signature: Signature, memory: Memory) -> None:
        self._session, self._memory = session, memory
        self._inputs, self._outputs = signature
        self._shapes: dict[str, tuple[int, ...]] | None = None
        self._buffers: _Buffers | None = None
        self._recorded = run_options(_GRAPH)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run plainly the first time, and through the graph from then on."""
        if self._shapes is None:
            return self._run(inputs)
        if self._buffers is None:
            self._buffers = self._bound(inputs, self._shapes)
        for name, buffer in self._buffers.inputs.items():
            buffer[...] = inputs[name]
        self._session.run_with_iobinding(self._buffers.binding, self._recorded)
        return {name: buffer.copy() for name, buffer in self._buffers.outputs.items()}

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run without a graph; ONNX Runtime allocates the outputs."""
        binding = self._session.io_binding()
        arrays = {name: _contiguous(inputs[name]) for name in self._inputs}
        for name, array in arrays.items():
            self._bind(binding.bind_input, name, array)
        for name in self._outputs:
            binding.bind_output(name, self._memory.kind, self._memory.index)
        self._session.run_with_iobinding(binding, run_options(_NO_GRAPH))
        outputs = {}
        for (name, spec), value in zip(self._outputs.items(), binding.get_outputs(), strict=True):
            shape = tuple(value.shape())
            # Copied, because a recorded graph writes to memory that the session considers free.
            outputs[name] = self._memory.view(value.data_ptr(), shape, spec.dtype, value).copy()
        self._shapes = {name: array.shape for name, array in outputs.items()}
        return outputs

    def _bound(
        self, inputs: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
    ) -> _Buffers:
        """Return new buffers for inputs and outputs of these shapes."""
        binding = self._session.io_binding()
        arrays, results = (
            {name: self._memory.empty(shape, specs[name].dtype) for name, shape in sizes.items()}
            for specs, sizes in (
                (self._inputs, {name: inputs[name].shape for name in self._inputs}),
                (self._outputs, shapes),
            )
        )
        for name, array in arrays.items():
            self._bind(binding.bind_input, name, array)
        for name, array in results.items():
            self._bind(binding.bind_output, name, array)
        return _Buffers(arrays, results, binding)

    def _bind(self, bind: Any, name: str, array: Array) -> None:
        memory = self._memory
        bind(name, memory.kind, memory.index, array.dtype.type, array.shape, memory.pointer(array))


def _kinds(specs: Mapping[str, TensorSpec]) -> list[tuple[str, str, int]]:
    """Return names, dtypes and numbers of axes; a session's axes all have a size."""
    return [(spec.name, spec.dtype, len(spec.shape)) for spec in specs.values()]


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous else array.copy()
