"""What every dossr command does alike: errors and Ctrl-C are one line on stderr, never a traceback,
and the standard streams are there, even where the caller closed them."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import click

_CAPTURING = threading.RLock()
_STDERR = 2


class Command(click.Command):
    """A click command whose errors are one line: ``<command>: <what must be, what was got>``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {"help_option_names": ["-h", "--help"], **self.context_settings}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and exit: 2 for wrong use, 1 for Ctrl-C and what the body decides."""
        name = kwargs.get("prog_name") or self.name or ""
        _open_closed_streams()
        before = signal.signal(signal.SIGTERM, _interrupt)
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
        finally:
            signal.signal(signal.SIGTERM, before)
        sys.exit(code if isinstance(code, int) else 0)


def say(name: str, message: object) -> None:
    """Print an error of a command as one line on stderr, where there is anybody to read it."""
    with suppress(OSError):
        click.echo(f"{name}: {' '.join(str(message).split())}", err=True)


@dataclass
class Captured:
    """What was written to stderr in a block, once the block has ended."""

    text: str = ""


@contextmanager
def captured_stderr() -> Iterator[Captured]:
    """Keep what C libraries write to stderr in the block, instead of showing it.

    The whole process is concerned, so blocks of several threads run one after the other.
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
                yield captured
            finally:
                os.dup2(saved, _STDERR)
                os.close(saved)
                captured.text = os.pread(file, 1 << 16, 0).decode("utf-8", "replace")


@contextmanager
def _scratch() -> Iterator[int]:
    """A file without a name; in memory where that is possible, as the disk may be read-only."""
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
    """Where the caller closed a standard stream (``2>&-``), make it one that goes nowhere.

    Otherwise the next file that is opened would get its number, and what libraries write to stderr
    would end up in that file.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(handle)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _abandon_stdout() -> None:
    """What could not be written to stdout is not tried again when Python ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Being told to end is like Ctrl-C: temporary files go."""
    raise KeyboardInterrupt
