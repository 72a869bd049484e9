"""Progress of an engine build: nested phases become one share and the time left."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...terminal import ShowShare

_RELIABLE = 0.02  # share done from which the time left is estimated


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Combines the nested phases that TensorRT's builder reports into one share.

    The builder calls it from its own threads. ``cancel`` takes effect at the next step.
    """

    def __init__(self, show: ShowShare, clock: Callable[[], float] = time.monotonic) -> None:
        self._show, self._clock = show, clock
        self._phases: dict[str, _Phase] = {}
        self._lock = threading.Lock()
        self._began = clock()
        self._share = 0.0
        self.is_cancelled = False

    def cancel(self) -> None:
        """Ask the builder to stop."""
        self.is_cancelled = True

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Begin a phase of ``steps`` steps within the current step of its parent."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, index: int) -> bool:
        """Finish step ``index``, from 0, of a phase; return False if the build should stop."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = index + 1
            self._notify()
        return not self.is_cancelled

    def finish(self, name: str) -> None:
        """End a phase, whether or not all its steps were done."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase and phase.parent is None and not self.is_cancelled:
                self._share = 1.0
            self._notify()

    def _notify(self) -> None:
        roots = [name for name, phase in self._phases.items() if phase.parent is None]
        self._share = max([self._share, *(self._done(name) for name in roots)])
        elapsed = self._clock() - self._began
        left = elapsed * (1.0 / self._share - 1.0) if self._share > _RELIABLE else None
        self._show(self._share, left)

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        children = [self._done(n) for n, p in self._phases.items() if p.parent == name]
        return min(1.0, (phase.done + min(1.0, max(children, default=0.0))) / phase.steps)
