"""A build that takes minutes: how far it is, how long it still takes, and Ctrl-C."""

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

Show = Callable[[float, float | None], None]
"""Called with the share done, 0 to 1 and never falling, and the seconds left where they can be told."""

_Result = TypeVar("_Result")
_TELLING = 0.02  # of the work must be done before the time left is more than a guess
_BLINK = 0.2  # seconds between looks at Ctrl-C


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildProgress:
    """Phases within phases, as TensorRT's builder reports them, made into one share.

    The builder calls it from threads of its own. ``cancel`` is heard at the next step.
    """

    def __init__(self, show: Show, clock: Callable[[], float] = time.monotonic) -> None:
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
        """A phase of so many steps begins, within the current step of its parent."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, index: int) -> bool:
        """Step ``index``, from 0, of a phase is done; False where the build should stop."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = index + 1
            self._notify()
        return not self.is_cancelled

    def finish(self, name: str) -> None:
        """A phase ends, whether its steps were all done or not."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase and phase.parent is None:
                self._share = 1.0
            self._notify()

    def _notify(self) -> None:
        roots = [name for name, phase in self._phases.items() if phase.parent is None]
        self._share = max([self._share, *(self._done(name) for name in roots)])
        elapsed = self._clock() - self._began
        left = elapsed * (1.0 / self._share - 1.0) if self._share > _TELLING else None
        self._show(self._share, left)

    def _done(self, name: str) -> float:
        phase = self._phases[name]
        children = [self._done(n) for n, p in self._phases.items() if p.parent == name]
        return min(1.0, (phase.done + min(1.0, max(children, default=0.0))) / phase.steps)


def interruptible(work: Callable[[], _Result], stop: Callable[[], None]) -> _Result:
    """Do long ``work`` that lets no signal through, so that Ctrl-C calls ``stop`` and then waits.

    The work runs in a thread and this one waits for Ctrl-C. A second Ctrl-C does not wait.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Event()  # an interrupted Thread.join may take the thread for ended (3.11)

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    try:
        threading.Thread(target=body, daemon=True).start()
        _wait(done)
    except KeyboardInterrupt:
        stop()
        _wait(done)
        raise
    if errors:
        raise errors[0]
    return results[0]


def terminal_bar(label: str) -> Show:
    """A line on stderr that is written over; silent where nobody watches."""
    if not sys.stderr.isatty():
        return lambda share, left: None

    def show(share: float, left: float | None) -> None:
        tail = "" if left is None else f"  about {time_left(left)} left"
        end = "\n" if share >= 1.0 else ""
        click.echo(f"\r{label}  {share:4.0%}{tail:<24}{end}", err=True, nl=False)

    return show


def time_left(seconds: float) -> str:
    """Such as 40 s, 3 min or 2 h 5 min; no more exact than it is known."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds / 5) * 5)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _wait(done: threading.Event) -> None:
    while not done.wait(_BLINK):
        pass
