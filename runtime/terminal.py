"""Commands on a terminal: one-line errors, standard streams, progress, Ctrl-C.

Results go to stdout, progress and messages to stderr. Progress is redrawn on a terminal only.
"""

import io
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TextIO, TypeVar

import click

from .progress import PhaseProgress, log_text, status_text

_CAPTURING = threading.RLock()
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STDERR = 2
_POLL = 0.2  # seconds between checks for Ctrl-C
_REDRAW = 0.5  # seconds between updates on a terminal

Advance = Callable[[float], None]
"""Called with the number of units done since the last call; a share of a unit counts too."""

ShowShare = Callable[[float, float | None], None]
"""Called with the share done, 0 to 1 and never falling, and the seconds left if known."""

_Result = TypeVar("_Result")


class Command(click.Command):
    """A click command whose errors are one line: ``<command>: <what must be, what was got>``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {"help_option_names": ["-h", "--help"], **self.context_settings}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and exit: 2 for wrong use, 1 for Ctrl-C, otherwise as the body decides."""
        _open_closed_streams()
        _allow_any_name(sys.stdout)
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with _stderr_of_python():  # also for the last message: a thread may still capture
                self._run_and_exit(*args, **kwargs)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _run_and_exit(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = kwargs.get("prog_name") or self.name or ""
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
            sys.stdout.flush()
        except click.ClickException as error:
            say(name, error.format_message())
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            say(name, "stopped")
            sys.exit(1)
        except OSError as error:
            _abandon_stdout()
            where = f"{error.filename}: " if error.filename else "cannot write the output: "
            say(name, f"{where}{error.strerror or error}")
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def printable(text: str) -> str:
    """Return a text with ? in place of control characters, which names of files may hold."""
    return _CONTROL.sub("?", text)


def say(name: str, message: object) -> None:
    """Print a command's error as one line on stderr; do nothing if stderr cannot be written."""
    with suppress(OSError):
        click.echo(f"{name}: {printable(' '.join(str(message).split()))}", err=True)


def log(message: str) -> None:
    """Print a message on stderr if it is a terminal."""
    if sys.stderr.isatty():
        click.echo(message, err=True)


class Progress(Protocol):
    """Receives the phases of a long task."""

    def phase(self, label: str, length: int | None = None) -> AbstractContextManager[Advance]:
        """Enter a phase of ``length`` units; call the yielded function with the units done."""
        ...

    def note(self, text: str) -> None:
        """Show a message to the user."""
        ...


class Silent:
    """A progress that shows nothing."""

    def phase(self, *_: object, **__: object) -> AbstractContextManager[Advance]:
        """Return a no-op context."""
        return nullcontext(lambda _: None)

    def note(self, *_: object, **__: object) -> None:
        """Drop the message."""


class Terminal:
    """Progress on stderr: share and time left, redrawn on a terminal, one line a minute elsewhere.

    A finished phase leaves one line with its duration. ``every``: seconds between the lines elsewhere.
    """

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._drawn = 0  # characters of the unfinished line on the terminal
        self._lock = threading.Lock()

    @contextmanager
    def phase(self, label: str, length: int | None = None) -> Iterator[Advance]:
        """Show how far the phase is while it runs, and its duration when it has ended."""
        done, ended = PhaseProgress(length), threading.Event()
        reporter = threading.Thread(target=self._report, args=(label, done, ended), daemon=True)
        reporter.start()
        try:
            yield done.advance
        except BaseException:
            _end(ended, reporter)
            self._print(None)
            raise
        _end(ended, reporter)
        self._print(f"{label}: {done.elapsed:.1f} s")

    def note(self, text: str) -> None:
        """Print the message on a line of its own."""
        self._print(f"note: {text}")

    def _report(self, label: str, done: PhaseProgress, ended: threading.Event) -> None:
        if sys.stderr.isatty():
            self._draw(status_text(label, done.share, None))
            while not ended.wait(_REDRAW):
                self._draw(status_text(label, done.share, done.left))
        else:
            while not ended.wait(self._every):
                self._print(log_text(label, done))

    def _draw(self, text: str) -> None:
        """Replace the unfinished line."""
        with self._lock:
            click.echo(f"\r{text:<{self._drawn}}", err=True, nl=False)
            self._drawn = len(text)

    def _print(self, text: str | None) -> None:
        """Print a line in the place of the unfinished one; None: only end that one."""
        with self._lock:
            if self._drawn:
                click.echo("\n" if text is None else f"\r{' ' * self._drawn}\r", err=True, nl=False)
            self._drawn = 0
            if text is not None:
                click.echo(text, err=True)


def _end(ended: threading.Event, reporter: threading.Thread) -> None:
    ended.set()
    reporter.join()


def share_line(label: str) -> ShowShare:
    """Return a function that draws a share and the time left; a no-op off a terminal."""
    if not sys.stderr.isatty():
        return lambda *_: None

    def show(share: float, left: float | None) -> None:
        end = "\n" if share >= 1.0 else ""
        click.echo(
            f"\r{status_text(label, share, left):<{len(label) + 30}}{end}", err=True, nl=False
        )

    return show


def interruptible(work: Callable[[], _Result], stop: Callable[[], None]) -> _Result:
    """Run ``work``, which blocks signals, in a thread; on Ctrl-C call ``stop`` and wait for it.

    A second Ctrl-C does not wait.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Event()  # Thread.join, interrupted, may report a running thread as ended

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
        raise errors.pop()  # kept in the list, it would keep its frames and their arrays
    return results[0]


def _wait(done: threading.Event) -> None:
    while not done.wait(_POLL):
        pass


@dataclass
class Captured:
    """The text written to stderr in a block, available after the block."""

    text: str = ""


@contextmanager
def captured_stderr() -> Iterator[Captured]:
    """Capture what C libraries write to stderr in the block; Python's own progress is still shown.

    Affects the whole process; blocks of several threads run one after the other.
    """
    captured = Captured()
    with _CAPTURING:
        try:
            saved = os.dup(_STDERR)
        except OSError:  # stderr is closed
            yield captured
            return
        with _scratch() as file:
            os.dup2(file, _STDERR)
            try:
                with _python_stderr_at(saved):
                    yield captured
            finally:
                os.dup2(saved, _STDERR)
                os.close(saved)
                os.lseek(file, 0, os.SEEK_SET)  # there is no pread on Windows
                captured.text = os.read(file, 1 << 16).decode("utf-8", "replace")


@contextmanager
def _stderr_of_python() -> Iterator[None]:
    """Let Python write to a copy of stderr in the block, which ``captured_stderr`` leaves alone.

    So that one thread may print while another captures.
    """
    try:
        copy = os.dup(_STDERR)
    except OSError:
        yield
        return
    try:
        with _python_stderr_at(copy):
            yield
    finally:
        os.close(copy)


@contextmanager
def _python_stderr_at(handle: int) -> Iterator[None]:
    """Let ``sys.stderr`` write to another open file in the block, if it is the process's stderr."""
    before = sys.stderr
    with suppress(AttributeError, OSError, ValueError):
        if before.fileno() == _STDERR:
            before.flush()
            sys.stderr = os.fdopen(
                handle, "w", buffering=1, encoding=before.encoding, errors="replace", closefd=False
            )
    try:
        yield
    finally:
        if sys.stderr is not before:
            sys.stderr.flush()
            sys.stderr = before


@contextmanager
def _scratch() -> Iterator[int]:
    """Yield an unnamed file, in memory where possible because the disk may be read-only."""
    if sys.platform == "linux":
        handle = os.memfd_create("stderr")
        try:
            yield handle
        finally:
            os.close(handle)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller closed (``2>&-``).

    Otherwise the next opened file would get its number and receive what libraries write to stderr.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(handle)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _allow_any_name(stream: TextIO) -> None:
    """Let a stream print file names that its encoding does not hold."""
    with suppress(AttributeError, OSError, ValueError):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if is_utf8 else "replace")


def _abandon_stdout() -> None:
    """Redirect stdout to the null device, so that Python does not flush it again at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _interrupt(*_: object) -> None:
    """Treat SIGTERM like Ctrl-C, so that temporary files are removed."""
    raise KeyboardInterrupt
