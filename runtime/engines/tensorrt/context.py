"""Execution contexts: the buffers of a loaded engine, its CUDA graph, its compiled kernels."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from ...errors import EngineError, OutOfMemoryError
from ...files import write_whole
from ...tensors import Array, TensorSpec
from .diagnostics import is_out_of_memory, meaning
from .plan import LOG, trt
from .profiles import Profile, Shape, is_fixed

_DTYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}


class Memory(Protocol):
    """The GPU memory and the one stream on which everything runs."""

    index: int
    """The number of the GPU."""

    def block(self, size: int) -> Array:
        """Allocate ``size`` bytes outside of the arrays' pool, which gives nothing back by itself."""
        ...

    def free_blocks(self) -> None:
        """Give what the arrays' pool holds unused back to the GPU."""
        ...

    @property
    def stream(self) -> int:
        """The address of the stream."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """Return a block whose array operations run on that stream, in any thread."""
        ...

    def upload(self, array: Array) -> Array:
        """Copy an array from NumPy."""
        ...

    def download(self, array: Array) -> Array:
        """Copy an array to NumPy."""
        ...

    def empty(self, shape: Shape, dtype: str) -> Array:
        """Allocate an array."""
        ...

    def pointer(self, array: Array) -> int:
        """Return the address of an array."""
        ...

    def synchronize(self) -> None:
        """Wait for everything on the stream."""
        ...

    def captured(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record ``work`` as a CUDA graph and return its launch; None if it cannot be recorded."""
        ...


class Scratch:
    """The working memory of engines: one block for all of them, because one runs at a time."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._block: Array | None = None

    def reserve(self, size: int) -> None:
        """Grow the block to at least ``size`` bytes. A new address must be set in every context."""
        if self._block is None or self._block.nbytes < size:
            self._memory.synchronize()
            self._block = None  # released first, so that both are never held
            self._block = self._memory.block(max(1, size))

    @property
    def pointer(self) -> int:
        """The address of the block; 0 before ``reserve``."""
        return 0 if self._block is None else self._memory.pointer(self._block)


class RuntimeCache:
    """Kernels that TensorRT-RTX compiled for this GPU, kept beside the engine.

    It compiles when an engine is opened and when it first runs; the file saves that time.
    """

    def __init__(self, runtime_config: Any, path: Path) -> None:
        self._path = path
        self._cache = runtime_config.create_runtime_cache()
        self._stored = 0
        with suppress(OSError):
            data = path.read_bytes()
            if self._cache.deserialize(data):  # otherwise: of another GPU, driver or version
                self._stored = len(data)
        runtime_config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the kernels if there are new ones; do nothing if the file cannot be written."""
        data = memoryview(self._cache.serialize())
        if data.nbytes != self._stored:
            with suppress(OSError):
                write_whole(self._path, data)
                self._stored = data.nbytes


class ExecutionContext:
    """A loaded engine with buffers for its inputs and outputs, and its CUDA graph."""

    def __init__(
        self,
        engine: Any,
        profile: Profile,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        memory: Memory,
        scratch: Scratch,
        plan: Path,
    ) -> None:
        self.profile = profile
        self._memory, self._scratch = memory, scratch
        self._engine = engine  # must outlive the context
        self._outputs = outputs
        _check_signature(engine, {**inputs, **outputs})
        self._size = int(engine.device_memory_size_v2)
        scratch.reserve(self._size)
        LOG.clear()
        self._context, self._kernels = _create_context(engine, plan)
        self._bound: tuple[Mapping[str, Shape], int] | None = None
        self._buffers: dict[str, Array] = {}
        self._launch: Callable[[], None] = self._execute

    def run(self, inputs: Mapping[str, Array], shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Run the engine on arrays of the memory; the returned arrays belong to the caller."""
        self._scratch.reserve(self._size)  # again, after a larger engine found no memory
        if self._bound != (shapes, self._scratch.pointer):
            self._bind(shapes)
        for name in shapes:
            self._buffers[name][...] = inputs[name]
        self._launch()
        return {name: self._buffers[name].copy() for name in self._outputs}

    def _bind(self, shapes: Mapping[str, Shape]) -> None:
        """Set the addresses of the context; for a fixed size, record the run as a CUDA graph."""
        self._bound, self._launch = None, self._execute  # until all is bound
        context = self._context
        context.set_device_memory(self._scratch.pointer, self._size)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(
                    f"TensorRT rejects shape {shape} for '{name}': {meaning(LOG.errors)}"
                )
        sizes = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in {**shapes, **sizes}.items():
            dtype = "float32"  # of every input and output, by _check_signature
            self._buffers[name] = self._memory.empty(shape, dtype)
            if not context.set_tensor_address(name, self._memory.pointer(self._buffers[name])):
                raise EngineError(f"TensorRT rejects the buffer of '{name}': {meaning(LOG.errors)}")
        for name in shapes:
            self._buffers[name][...] = 0
        if self._kernels or is_fixed(self.profile):
            self._execute()  # the first run compiles and initializes what cannot be recorded
            self._memory.synchronize()
        if self._kernels:
            self._kernels.save()
        if is_fixed(self.profile) and self._is_capturable():
            self._launch = self._memory.captured(self._execute) or self._execute
        self._bound = (dict(shapes), self._scratch.pointer)

    def _is_capturable(self) -> bool:
        """Ask TensorRT-RTX whether a run can be recorded; TensorRT cannot tell."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(self._memory.stream))

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._memory.stream):
            raise _failure("TensorRT failed")


def _create_context(engine: Any, plan: Path) -> tuple[Any, RuntimeCache | None]:
    """Return a context that uses the shared block, and its kernel cache where the library has one."""
    user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    kernels = None
    if hasattr(trt, "IRuntimeCache"):
        runtime_config = engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(user_managed)
        kernels = RuntimeCache(runtime_config, plan.with_suffix(".runtime-cache"))
        context = engine.create_execution_context(runtime_config)
    else:
        context = engine.create_execution_context(user_managed)
    if context is None:
        raise _failure("TensorRT cannot create a context")
    return context, kernels


def _failure(what: str) -> EngineError:
    kind = OutOfMemoryError if is_out_of_memory(LOG.errors) else EngineError
    return kind(f"{what}: {meaning(LOG.errors)}")


def _check_signature(engine: Any, specs: Mapping[str, TensorSpec]) -> None:
    """Raise EngineError unless the engine has the manifest's inputs and outputs."""
    names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    wrong = names ^ specs.keys()
    for name, spec in specs.items():
        wanted = getattr(trt.DataType, _DTYPES[spec.dtype])
        if name in names and engine.get_tensor_dtype(name) != wanted:
            wrong.add(name)
    if wrong:
        raise EngineError(
            f"the engine's inputs/outputs do not match the manifest: {', '.join(sorted(wrong))}; "
            "export the checkpoint again"
        )
