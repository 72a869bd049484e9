"""What the rows of one run share: settings, progress, and results that several rows use."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ...runtime.terminal import Progress
from ..measure.calls import VARIANTS, Variant, WorkerCall
from ..measure.process import CallError
from ..measure.process import run as run_worker

COUNTED = Variant("-", "-")
"""The variant of rows that are only counted."""

_LIBRARIES = 2**29  # bytes of a process that has loaded its libraries and nothing else

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What holds for all rows."""

    table: str
    """A name in TABLES."""

    protocol: str
    size: int
    device: str
    warmup: int
    repetitions: int
    reduced: bool

    def key(self, system: str, variant: Variant) -> tuple[str, str, str, str, str, int, bool]:
        """Return the ``Row.key`` of a row to measure."""
        device = "meta" if variant == COUNTED else self.device
        return (system, self.protocol, variant.backend, device, variant.precision, self.size,
                self.reduced)  # fmt: skip

    def system_options(self, system: str, need: int) -> dict[str, Any]:
        """Return the fields of a SystemCall; ``need`` is the memory of the networks in bytes."""
        return {
            "system": system,
            "size": self.size,
            "reduced": self.reduced,
            "device": self.device,
            "need": need + _LIBRARIES,
        }


class Shared:
    """Results that several rows use: each is made once, and its error is raised again."""

    def __init__(self) -> None:
        self._results: dict[object, Any] = {}

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Return the result with this key; ``make`` it first where there is none."""
        if key not in self._results:
            try:
                self._results[key] = make()
            except CallError as error:
                self._results[key] = error
        found = self._results[key]
        if isinstance(found, CallError):
            raise CallError(str(found))
        result: T = found
        return result

    def forget(self, key: object) -> None:
        """Drop a result, so that the next row makes it again."""
        self._results.pop(key, None)


@dataclass(frozen=True)
class Session:
    """One run of the command: settings, scratch folder, progress and shared results."""

    settings: Settings
    scratch: Path
    """An empty folder for exported networks."""

    progress: Progress
    shared: Shared = field(default_factory=Shared)

    def measure(self, call: WorkerCall[T], label: str, ticks: int | None = None) -> T:
        """Run a call in a worker process and show its progress. Raises CallError."""
        with self.progress.phase(label, ticks) as advance:
            return run_worker(call, advance)


def variant_name(variant: Variant) -> str:
    """Return the variant's name on the command line."""
    return next(name for name, known in VARIANTS.items() if known == variant)
