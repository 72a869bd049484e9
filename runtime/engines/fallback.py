"""An engine that is built for some sizes, with the CPU for all others."""

from collections.abc import Callable, Mapping
from typing import Protocol

from ..bundle import Bundle
from ..errors import EngineError
from ..tensors import Array
from .device import load_onnx_device
from .engine import Engine, Place

Shape = tuple[int, ...]


class SizedEngine(Engine, Protocol):
    """An engine that exists for some sizes only."""

    def has_engine(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether an engine that takes these shapes exists and fits this machine."""
        ...


class EngineOrCpu:
    """A network of a bundle: sizes that ``engine`` is not built for run in ONNX Runtime on the CPU.

    ``place``: where the arrays of ``engine`` live. ``log`` is told when the CPU is first used.
    ``threads``: of the CPU; None: one for each core.
    """

    def __init__(
        self,
        engine: SizedEngine,
        place: Place,
        bundle: Bundle,
        stage: str,
        log: Callable[[str], None],
        threads: int | None = None,
    ) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine, self._place, self._log = engine, place, log
        self._bundle, self._stage, self._threads = bundle, stage, threads
        self._is_built: dict[tuple[Shape, ...], bool] = {}
        self._host: Engine | None = None

    def has_engine(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether an engine that takes these shapes exists; the answer is kept."""
        key = tuple(shapes[name] for name in self.inputs)
        if key not in self._is_built:
            self._is_built[key] = self._engine.has_engine(shapes)
        return self._is_built[key]

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on arrays of the place."""
        shapes = {name: tuple(inputs[name].shape) for name in self.inputs}
        if self.has_engine(shapes):
            return self._engine.run(**inputs)
        if self._host is None:
            self._host = self._open_host(next(iter(shapes.values())))
        near = {name: self._place.download(array) for name, array in inputs.items()}
        found = self._host.run(**near)
        return {name: self._place.upload(array) for name, array in found.items()}

    def _open_host(self, shape: Shape) -> Engine:
        """Open the network on the CPU; raise EngineError if ONNX Runtime is not installed."""
        why = f"no engine of the {self._stage} is built for {'x'.join(map(str, shape))}"
        try:
            host = load_onnx_device("cpu", threads=self._threads).open(self._bundle, self._stage)
        except ModuleNotFoundError as error:
            raise EngineError(
                f"{why}, and the CPU cannot run it: {error}; install it with: pip install 'dossr[cpu]'"
            ) from error
        self._log(f"{why}: it runs on the CPU")
        return host
