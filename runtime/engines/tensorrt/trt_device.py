"""``--device tensorrt``: CuPy arrays and stream, with a TensorRT engine for every network.

Written against the published bindings; not run on a GPU yet.
"""

from collections.abc import Callable
from pathlib import Path

from ..cuda.cupy_device import Cuda
from ..engine import Engine
from .build import check_version
from .context import Scratch
from .engine import TrtEngine
from .options import BuildOptions


class TensorRt(Cuda):
    """The GPU that CuPy has selected, with TensorRT in place of ONNX Runtime."""

    def __init__(self, options: BuildOptions | None = None) -> None:
        super().__init__()
        check_version()
        self._options = options
        self._scratch = Scratch(self)

    def open(self, path: Path) -> Engine:
        """Open an ``.onnx`` file of a bundle as a TensorRT engine."""
        return TrtEngine(path, self, self._scratch, self._options)

    @property
    def stream(self) -> int:
        """The address of the stream."""
        return int(self._stream.ptr)

    def synchronize(self) -> None:
        """Wait for everything on the stream."""
        self._stream.synchronize()

    def captured(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Record ``work`` as a CUDA graph and return its launch; None if it cannot be recorded."""
        try:
            with self._stream:
                self._stream.begin_capture()
                try:
                    work()
                finally:
                    graph = self._stream.end_capture()
        except RuntimeError:  # raised by CuPy and by EngineError: some layers cannot be recorded
            return None
        return lambda: graph.launch(self._stream)
