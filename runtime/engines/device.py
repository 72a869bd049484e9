"""Where arrays live and networks run: the one place that knows every device.

The pipeline is written once, on NumPy's functions. NumPy hands them on to the arrays' own library
(NEP 13 and 18), so CuPy arrays stay on the GPU; what differs between devices is in ``Device``.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from ...solvers import StepCoefficients, predict_x0, step
from ..errors import EngineError
from ..tensors import Array
from .engine import Engine
from .tensorrt.options import BuildOptions

DEVICES = ("cpu", "cuda", "tensorrt")


class Device(Protocol):
    """Holds the arrays of a pipeline and opens its networks. Serves one thread."""

    def open(self, path: Path) -> Engine:
        """Open an ``.onnx`` file; the engine takes and gives arrays of this device."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """A block whose array operations run here, in the order in which they are written."""
        ...

    def upload(self, array: Array) -> Array:
        """A NumPy array on this device."""
        ...

    def download(self, array: Array) -> Array:
        """An array of this device in NumPy; waits for everything before it."""
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
        """The prediction x0 of a solver step, and the state after it.

        ``older`` holds the predictions before, newest first; ``z`` is the noise.
        """
        ...

    def record_event(self) -> Any:
        """The moment at which all that was written so far is done; does not wait for it."""
        ...

    def seconds(self, before: Any, after: Any) -> float:
        """Seconds between two events; waits for the second."""
        ...


class Host:
    """The CPU: NumPy and ONNX Runtime."""

    def open(self, path: Path) -> Engine:
        from .onnxruntime.session import OrtEngine

        return OrtEngine(path)

    def active(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def upload(self, array: Array) -> Array:
        return array

    def download(self, array: Array) -> Array:
        return array

    def step(
        self,
        row: StepCoefficients,
        x: Array,
        eps: Array,
        x_lr: Array,
        older: Sequence[Array],
        z: Array,
    ) -> tuple[Array, Array]:
        x0: Array = predict_x0(row, x, eps)
        return x0, step(row, x, x_lr, (x0, *older), z)

    def record_event(self) -> Any:
        return time.perf_counter()

    def seconds(self, before: Any, after: Any) -> float:
        return float(after - before)


def load_device(name: str, build: BuildOptions | None = None) -> Device:
    """Make a device ready; ``name`` must be one of DEVICES, ``build`` is for tensorrt alone.

    Raises ModuleNotFoundError where its packages are not installed, and EngineError where they, or
    the machine, cannot run it.
    """
    if name not in DEVICES:
        raise ValueError(f"device must be {', '.join(DEVICES)}, got '{name}'")
    if build is not None and name != "tensorrt":
        raise ValueError(f"engine settings are for the device tensorrt, got '{name}'")
    if name == "cpu":
        return Host()
    try:
        from .cuda.cupy_device import Cuda
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # CuPy's own message is a page
        reason = [line for line in map(str.strip, str(error).splitlines()) if line.strip("=")]
        raise EngineError(
            f"CuPy is installed and cannot be loaded ({reason[-1] if reason else error}); "
            "install one build of it only: pip install 'dossr[cuda]'"
        ) from error
    return _tensorrt(build) if name == "tensorrt" else Cuda()


def _tensorrt(build: BuildOptions | None) -> Device:
    try:
        from .tensorrt.trt_device import TensorRt
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError) as error:
        raise EngineError(
            f"TensorRT is installed and cannot be loaded ({str(error).splitlines()[0]}); "
            "its libraries and its Python package must be of one version"
        ) from error
    return TensorRt(build)


def load_engine(path: Path, device: str) -> Engine:
    """Open an ``.onnx`` file on a device of its own; ``device`` must be one of DEVICES."""
    return load_device(device).open(path)
