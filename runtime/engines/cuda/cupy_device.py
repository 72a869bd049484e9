"""The CuPy device. The only file that imports cupy; written for CuPy 14.2."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np

from ....solvers import StepCoefficients
from ...bundle import Bundle, Target
from ...errors import EngineError, OutOfMemoryError
from ...tensors import Array
from ..engine import Engine
from .kernel import step_kernel, step_numbers

if TYPE_CHECKING:
    from ..onnxruntime.session import Provider


class Cuda:
    """The GPU that CuPy has selected, with CuPy arrays and ONNX Runtime on one stream.

    ``tf32``: whether float32 products may have TF32's 10 bits of mantissa; None: in bundles of float16.
    Raises EngineError without a driver, a GPU or CUDA's compiler.
    """

    name = "cuda"
    target: Target = "cuda"
    kind = "cuda"  # its name in ONNX Runtime

    def __init__(self, tf32: bool | None = None) -> None:
        check_gpu()
        self.index = int(cupy.cuda.Device().id)
        self._tf32 = tf32
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._kernels: dict[int, Any] = {}

    def precisions(self, bundle: Bundle) -> dict[str, str]:
        """Return the bundle's precision for every stage."""
        return dict.fromkeys(bundle.manifest.stages, str(bundle.manifest.precision))

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """Open a stage; raise EngineError if ONNX Runtime cannot run on this GPU."""
        from ..onnxruntime.io_binding import BoundEngine

        signature = bundle.manifest.stages[stage].signature
        provider = self._provider(is_half=bundle.manifest.precision == "fp16")
        return BoundEngine(bundle.path(stage, self.target), signature, provider, self)

    def open_file(self, path: Path) -> Engine:
        """Open an ``.onnx`` file; raise EngineError if ONNX Runtime cannot run on this GPU."""
        from ..onnxruntime.io_binding import BoundEngine
        from ..onnxruntime.session import read_signature

        provider = self._provider(is_half=False)
        return BoundEngine(path, read_signature(path, provider), provider, self)

    def _provider(self, is_half: bool) -> "Provider":
        """Return ONNX Runtime's provider for this GPU; raise EngineError if it cannot run here."""
        from ..onnxruntime.cuda_provider import check_cuda, cuda_provider

        capability = str(cupy.cuda.Device(self.index).compute_capability)
        check_cuda(cupy.cuda.runtime.runtimeGetVersion() // 1000, capability)
        return cuda_provider(
            self._stream.ptr, self.index, is_half if self._tf32 is None else self._tf32
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Return a block whose array operations run on the GPU's stream, in any thread."""
        with cupy.cuda.Device(self.index), self._stream:
            yield

    def upload(self, array: Array) -> Array:
        """Copy an array from NumPy."""
        with self.active():
            uploaded: Array = cupy.asarray(array)
        return uploaded

    def download(self, array: Array) -> Array:
        """Copy an array to NumPy; wait for all earlier operations."""
        with self.active():
            downloaded: Array = cupy.asnumpy(array)
        return downloaded

    def from_dlpack(self, array: Any) -> Array:
        """Return a CuPy array over the memory of another library's array on this GPU.

        CuPy passes its current stream to ``__dlpack__``, which makes it wait for the other library's.
        """
        with self.active():
            shared: Array = cupy.from_dlpack(array)
        return shared

    def step(
        self,
        row: StepCoefficients,
        x: Array,
        eps: Array,
        x_lr: Array,
        older: Sequence[Array],
        z: Array,
    ) -> tuple[Array, Array]:
        """Run one kernel for both results; extra predictions in ``older`` are ignored."""
        order = len(row.x0)
        if order not in self._kernels:
            self._kernels[order] = _compile(order)
        x0, following = self._kernels[order](
            x, eps, x_lr, z, *older[: order - 1], *step_numbers(row)
        )
        return x0, following

    def record_event(self) -> Any:
        """Record a CUDA event on the stream."""
        event = cupy.cuda.Event()
        event.record(self._stream)
        return event

    def seconds(self, before: Any, after: Any) -> float:
        """Return the seconds between two events; wait for the second."""
        after.synchronize()
        return float(cupy.cuda.get_elapsed_time(before, after)) / 1e3

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Allocate an array."""
        array: Array = cupy.empty(shape, dtype)
        return array

    def block(self, size: int) -> Array:
        """Allocate ``size`` bytes outside CuPy's pool, so that they are the driver's again when dropped.

        The pool gives its unused blocks back first. Raise OutOfMemoryError if the GPU has no such memory.
        """
        self.free_blocks()
        try:
            with cupy.cuda.Device(self.index):
                memory = cupy.cuda.Memory(size)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise OutOfMemoryError(
                f"the GPU must have {size / 2**20:.0f} MiB left in one piece ({error}); use smaller tiles"
            ) from error
        block: Array = cupy.ndarray((size,), "uint8", cupy.cuda.MemoryPointer(memory, 0))
        return block

    def free_blocks(self) -> None:
        """Give the unused blocks of CuPy's pool back to the driver, for other libraries."""
        with cupy.cuda.Device(self.index):
            cupy.get_default_memory_pool().free_all_blocks()

    def pointer(self, array: Array) -> int:
        """Return the address of an array."""
        return int(array.data.ptr)  # type: ignore[attr-defined]  # CuPy's, not NumPy's

    def view(self, pointer: int, shape: tuple[int, ...], dtype: str, owner: object) -> Array:
        """Return an array over memory that ``owner`` holds."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = cupy.cuda.UnownedMemory(pointer, size, owner, self.index)
        array: Array = cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0))
        return array


def check_gpu() -> None:
    """Raise EngineError unless CuPy finds a sufficient driver, a GPU and a compiler."""
    runtime = cupy.cuda.runtime
    try:
        runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            message = "no NVIDIA driver is loaded; nvidia-smi must list a GPU"
        elif driver // 1000 < needed // 1000:
            message = (
                f"the NVIDIA driver supports CUDA {_version(driver)}, and the installed CuPy needs "
                f"{needed // 1000}.0; update the driver, or install the wheels for its CUDA"
            )
        else:
            message = f"no NVIDIA GPU can be used ({error}); nvidia-smi must list one"
        raise EngineError(message) from error
    try:
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        raise EngineError(
            "CuPy cannot find the CUDA compiler (NVRTC); install: pip install "
            f"'cupy-cuda{runtime.runtimeGetVersion() // 1000}x[ctk]', or CUDA's toolkit with JetPack"
        ) from error


def select_gpu(index: int) -> None:
    """Let this thread's devices be those of one GPU; raise EngineError if there is none of this number."""
    try:
        cupy.cuda.Device(index).use()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise EngineError(f"GPU {index} cannot be used ({error}); nvidia-smi lists them") from error


def _compile(order: int) -> Any:
    """Return the fused solver step; CuPy compiles it at its first call and caches it on disk."""
    kernel = step_kernel(order)
    return cupy.ElementwiseKernel(
        ", ".join(f"float32 {name}" for name in (*kernel.arrays, *kernel.coefficients)),
        ", ".join(f"float32 {name}" for name in kernel.results),
        kernel.statements,
        f"dossr_step_{order}",
    )


def _version(number: int) -> str:
    """Return CUDA's version number, such as 12040, as text: 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"
