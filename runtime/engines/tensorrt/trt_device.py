"""``--device tensorrt`` and ``tensorrt-rtx``: CuPy arrays and stream, an engine for every network.

Written against the published bindings; not run on a GPU yet.
"""

from collections.abc import Callable

from ...bundle import Bundle
from ..cuda.cupy_device import Cuda
from ..engine import Engine
from ..fallback import EngineOrCpu
from .build import check_library
from .context import Scratch
from .engine import TrtEngine
from .library import selected_library
from .options import BuildOptions
from .plan import trt
from .support import target_of


class TensorRt(Cuda):
    """The GPU that CuPy has selected, with this process's TensorRT in place of ONNX Runtime.

    ``threads``: of the CPU, for sizes without an engine; None: one for each core.
    """

    def __init__(
        self, options: BuildOptions, log: Callable[[str], None], threads: int | None = None
    ) -> None:
        super().__init__()
        check_library()
        self.name = selected_library()
        self.target = target_of(self.name, trt.__version__)
        self._options, self._log, self._threads = options, log, threads
        self._scratch = Scratch(self)

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """Open a network of a bundle as a TensorRT engine."""
        engine = TrtEngine(bundle, stage, self, self._scratch, self._options, log=self._log)
        if self._options.falls_back:
            return EngineOrCpu(engine, self, bundle, stage, self._log, self._threads)
        return engine

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
            with self.active():
                self._stream.begin_capture()
                try:
                    work()
                finally:
                    graph = self._stream.end_capture()
        except RuntimeError:  # raised by CuPy and by EngineError: some layers cannot be recorded
            return None
        return lambda: graph.launch(self._stream)
