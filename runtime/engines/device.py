"""Devices: where arrays live and networks run.

The pipeline uses NumPy's functions, which NumPy dispatches to the arrays' own library (NEP 13 and
18), so CuPy arrays stay on the GPU. ``Device`` covers what differs between devices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...solvers import StepCoefficients, predict_x0, step
from ..bundle import Bundle, Target
from ..errors import EngineError
from ..tensors import Array
from ..terminal import log as log_to_terminal
from .engine import Engine
from .precision import AUTO, PrecisionOptions
from .tensorrt.library import LIBRARIES, Library, select_library
from .tensorrt.options import BuildOptions

OPENVINO = ("openvino", "openvino:CPU", "openvino:GPU", "openvino:NPU")
DEVICES = ("cpu", *OPENVINO, "cuda", "tensorrt", "tensorrt-rtx")


class Device(Protocol):
    """Holds the arrays of a pipeline and opens its networks. Serves one thread."""

    @property
    def name(self) -> str:
        """Its name, one of DEVICES."""
        ...

    @property
    def target(self) -> Target:
        """The target whose graphs this device runs."""
        ...

    def precisions(self, bundle: Bundle) -> dict[str, str]:
        """Return the precision in which each stage of a bundle computes, such as fp32, bf16 or int8."""
        ...

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """Open a stage of a bundle; the engine's inputs and outputs are arrays of this device."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """Return a block whose array operations run on this device, in order."""
        ...

    def upload(self, array: Array) -> Array:
        """Copy an array from NumPy to this device."""
        ...

    def download(self, array: Array) -> Array:
        """Copy an array of this device to NumPy; wait for all earlier operations."""
        ...

    def from_dlpack(self, array: Any) -> Array:
        """Return an array over the memory of another library's array on this device, without a copy.

        ``array`` must have ``__dlpack__`` and ``__dlpack_device__``. Operations of this device wait for
        what the other library has queued so far. Where the result goes back by DLPack, call its
        ``from_dlpack`` in a block of ``active``, so that it waits for this device.
        """
        ...

    def step(
        self,
        row: StepCoefficients,
        x: Array,
        eps: Array,
        x_lr: Array,
        older: Sequence[Array],
        z: Array,
    ) -> tuple[Array, Array]:
        """Return the prediction x0 of a solver step and the state after it.

        ``older`` holds the earlier predictions, newest first; ``z`` is the noise.
        """
        ...

    def record_event(self) -> Any:
        """Record an event that occurs when all earlier operations are done; do not wait for it."""
        ...

    def seconds(self, before: Any, after: Any) -> float:
        """Return the seconds between two events; wait for the second."""
        ...


class OnnxDevice(Device, Protocol):
    """A device that opens any ``.onnx`` file, not only the stages of a bundle."""

    def open_file(self, path: Path) -> Engine:
        """Open an ``.onnx`` file; the engine's inputs and outputs are arrays of this device."""
        ...


class Host:
    """The CPU, with NumPy and ONNX Runtime. ``threads``: of a network; None: one for each core."""

    name = "cpu"
    target: Target = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads

    def precisions(self, bundle: Bundle) -> dict[str, str]:
        """Return fp32 for every stage, whatever the weights are stored in."""
        return dict.fromkeys(bundle.manifest.stages, "fp32")

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """Open a stage in ONNX Runtime."""
        return self.open_file(bundle.path(stage, self.target))

    def open_file(self, path: Path) -> Engine:
        """Open an ``.onnx`` file in ONNX Runtime."""
        from .onnxruntime.session import OrtEngine

        return OrtEngine(path, self._threads)

    def active(self) -> AbstractContextManager[Any]:
        """Return a no-op context."""
        return nullcontext()

    def upload(self, array: Array) -> Array:
        """Return the array itself."""
        return array

    def download(self, array: Array) -> Array:
        """Return the array itself."""
        return array

    def from_dlpack(self, array: Any) -> Array:
        """Return a NumPy array over the memory of another library's array on the CPU."""
        return np.from_dlpack(array)

    def step(
        self,
        row: StepCoefficients,
        x: Array,
        eps: Array,
        x_lr: Array,
        older: Sequence[Array],
        z: Array,
    ) -> tuple[Array, Array]:
        """Compute x0 and the next state with NumPy."""
        x0: Array = predict_x0(row, x, eps)
        return x0, step(row, x, x_lr, (x0, *older), z)

    def record_event(self) -> Any:
        """Return the time in seconds."""
        return time.perf_counter()

    def seconds(self, before: Any, after: Any) -> float:
        """Return the seconds between two events."""
        return float(after - before)


def load_device(
    name: str,
    build: BuildOptions | None = None,
    tf32: bool | None = None,
    log: Callable[[str], None] = log_to_terminal,
    precision: PrecisionOptions = AUTO,
    threads: int | None = None,
) -> Device:
    """Load a device; ``name`` must be one of DEVICES, ``build`` is for LIBRARIES only.

    ``tf32``: whether float32 products on a GPU may use TensorFloat-32; None: in float16 bundles only.
    ``log`` is called with one message per build or refusal of an engine, and with the precision taken.
    ``precision``: auto, or fp32, bf16 or int8 for all or single stages; GPUs of NVIDIA take the bundle's.
    ``threads``: of a processor's networks; None: one for each core.

    Raise ModuleNotFoundError if its packages are not installed, ValueError if an option is not for it,
    and EngineError if packages or machine do not support it.
    """
    if name not in DEVICES:
        raise ValueError(f"device must be {', '.join(DEVICES)}, got '{name}'")
    check_options(name, build, tf32, precision)
    for library in LIBRARIES:
        if name == library:
            _check_cupy()
            build = build or BuildOptions()
            build = build if tf32 is None else replace(build, tf32=tf32)
            return _tensorrt(library, build, log, threads)
    return load_onnx_device(name, tf32, log, precision, threads)


def check_options(
    name: str, build: BuildOptions | None, tf32: bool | None, precision: PrecisionOptions
) -> None:
    """Raise ValueError if an option is not for a device, or for ``auto``; see ``load_device``. Loads nothing."""
    if build is not None and name not in LIBRARIES:
        raise ValueError(f"build options are for {' and '.join(LIBRARIES)}, got '{name}'")
    if tf32 is not None and name in ("cpu", *OPENVINO):
        raise ValueError(f"TF32 is for GPUs, got the device {name}")
    if name not in OPENVINO:
        precision.check_fixed(name)


def load_onnx_device(
    name: str,
    tf32: bool | None = None,
    log: Callable[[str], None] = log_to_terminal,
    precision: PrecisionOptions = AUTO,
    threads: int | None = None,
) -> OnnxDevice:
    """Load ``cpu``, ``cuda`` or one of OPENVINO. Raises as ``load_device`` does."""
    check_options(name, None, tf32, precision)
    if name in OPENVINO:
        with _loading("OpenVINO"):
            from .openvino.ov_device import OpenVino
        return OpenVino(name, precision, log, threads)
    with _loading("ONNX Runtime"):
        from .onnxruntime.session import OrtEngine  # noqa: F401 - missing now, not at the first run
    if name == "cpu":
        return Host(threads)
    _check_cupy()
    from .cuda.cupy_device import Cuda

    return Cuda(tf32)


def _check_cupy() -> None:
    """Raise EngineError of one line if CuPy is installed and cannot be loaded."""
    try:
        from .cuda import cupy_device  # noqa: F401
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # CuPy's message has many lines
        reason = [line for line in map(str.strip, str(error).splitlines()) if line.strip("=")]
        raise EngineError(
            f"CuPy is installed but cannot be loaded ({reason[-1] if reason else error}); "
            "dossr-doctor says which packages overwrite each other"
        ) from error


def _tensorrt(
    library: Library, build: BuildOptions, log: Callable[[str], None], threads: int | None
) -> Device:
    with _loading(library):
        select_library(library)
        from .tensorrt.trt_device import TensorRt
    return TensorRt(build, log, threads)


@contextmanager
def _loading(library: str) -> Iterator[None]:
    """Convert a failure of an installed library to load to an EngineError of one line."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError) as error:
        raise EngineError(
            f"{library} is installed but cannot be loaded ({str(error).splitlines()[0]}); "
            "its libraries and its Python package must have the same version"
        ) from error
