"""``--device tensorrt``: CuPy's arrays and stream, and every network a TensorRT engine.

Written against the published bindings, not yet run on a GPU.
"""

from collections.abc import Callable
from pathlib import Path

from ...terminal import log, share_line
from ..cuda.cupy_device import Cuda
from ..engine import Engine
from .engine import Scratch, TrtEngine, check_version
from .profiles import BuildOptions


class TensorRt(Cuda):
    """The GPU that CuPy has selected, with TensorRT in place of ONNX Runtime."""

    kind = "tensorrt"

    def __init__(self, options: BuildOptions | None = None) -> None:
        super().__init__()
        check_version()
        self._options = options
        self._scratch = Scratch(self)

    def open(self, path: Path) -> Engine:
        return TrtEngine(path, self, self._scratch, self._options, share_line, log)

    @property
    def stream(self) -> int:
        return int(self._stream.ptr)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def captured(self, work: Callable[[], None]) -> Callable[[], None] | None:
        try:
            with self._stream:
                self._stream.begin_capture()
                try:
                    work()
                finally:
                    graph = self._stream.end_capture()
        except RuntimeError:  # CuPy's and ours: some layers cannot be recorded
            return None
        return lambda: graph.launch(self._stream)
