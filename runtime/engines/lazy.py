"""Lazy engines: loaded when they run, one in memory at a time."""

from collections.abc import Callable, Mapping

from ..tensors import Array, TensorSpec
from .engine import Engine


class EngineSlot:
    """Holds the engine that ran last; the next one replaces it."""

    def __init__(self) -> None:
        self._held: tuple[LazyEngine, Engine] | None = None

    def run(self, lazy: "LazyEngine", inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a lazy engine; open it unless it is held."""
        if self._held is None or self._held[0] is not lazy:
            self._held = None  # released first, so that two are never held
            self._held = lazy, lazy.open()
        return self._held[1].run(**inputs)


class LazyEngine:
    """An engine that ``open`` loads into ``slot`` when it runs."""

    def __init__(
        self,
        slot: EngineSlot,
        open: Callable[[], Engine],
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
    ) -> None:
        self.open, self.inputs, self.outputs = open, inputs, outputs
        self._slot = slot

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the engine, loading it if necessary."""
        return self._slot.run(self, inputs)
