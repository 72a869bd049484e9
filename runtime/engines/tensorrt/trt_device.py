"""``--device tensorrt`` and ``tensorrt-rtx``: CuPy arrays and stream, an engine for every network.

Written against the published bindings; not run on a GPU yet.
"""

from collections.abc import Callable, Mapping

from ...bundle import Bundle
from ...tensors import Array
from ..cuda.cupy_device import Cuda
from ..device import Host
from ..engine import Engine, Place
from .build import check_library
from .context import Scratch
from .engine import TrtEngine
from .library import selected_library
from .options import BuildOptions
from .plan import trt
from .profiles import Shape
from .support import target_of


class TensorRt(Cuda):
    """The GPU that CuPy has selected, with this process's TensorRT in place of ONNX Runtime."""

    def __init__(self, options: BuildOptions, log: Callable[[str], None]) -> None:
        super().__init__()
        check_library()
        self.name = selected_library()
        self.target = target_of(self.name, trt.__version__)
        self._options, self._log = options, log
        self._scratch = Scratch(self)

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """Open a network of a bundle as a TensorRT engine."""
        engine = TrtEngine(bundle, stage, self, self._scratch, self._options, log=self._log)
        if self._options.falls_back:
            return EngineOrCpu(engine, self, bundle, stage, self._log)
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


class EngineOrCpu:
    """A TensorRT engine; sizes for which none is built run in ONNX Runtime on the CPU."""

    def __init__(
        self,
        engine: TrtEngine,
        place: Place,
        bundle: Bundle,
        stage: str,
        log: Callable[[str], None],
    ) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine, self._place, self._log = engine, place, log
        self._bundle, self._stage = bundle, stage
        self._is_built: dict[tuple[Shape, ...], bool] = {}
        self._host: Engine | None = None

    def has_engine(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether an engine that takes these shapes exists and fits this machine."""
        key = tuple(shapes[name] for name in self.inputs)
        if key not in self._is_built:
            self._is_built[key] = self._engine.has_engine(shapes)
        return self._is_built[key]

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on arrays of the GPU."""
        shapes = {name: tuple(inputs[name].shape) for name in self.inputs}
        if self.has_engine(shapes):
            return self._engine.run(**inputs)
        if self._host is None:
            size = "x".join(map(str, next(iter(shapes.values()))))
            self._log(f"no engine of the {self._stage} is built for {size}: it runs on the CPU")
            self._host = Host().open(self._bundle, self._stage)
        near = {name: self._place.download(array) for name, array in inputs.items()}
        found = self._host.run(**near)
        return {name: self._place.upload(array) for name, array in found.items()}
