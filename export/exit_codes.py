"""How ``dossr-export`` ends where something fails: one line and an exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..runtime.errors import EngineError, lacks_memory, reason
from ..runtime.terminal import say
from .errors import CheckpointError, Fp16Error, VerificationError


@contextmanager
def missing_packages(extra: str) -> Iterator[None]:
    """Exit with 2 where a package of these extras is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error}; install it with: pip install 'dossr[{extra}]'"
        raise click.UsageError(message) from error


@contextmanager
def errors_in_one_line(output: Path = Path()) -> Iterator[None]:
    """Exit with 1 where the export fails, and with 2 where an argument is wrong."""
    try:
        yield
    except (CheckpointError, EngineError, Fp16Error, VerificationError) as error:
        say("dossr-export", error)
        sys.exit(1)
    except (ValueError, FileExistsError, NotADirectoryError, PermissionError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        say("dossr-export", f"cannot write {output}: {error}")
        sys.exit(1)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Exit with 1 where torch, or Python, runs out of memory in an export; other errors pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, EngineError) or not lacks_memory(error):
            raise
        say("dossr-export", f"out of memory: {reason(error)}; a smaller --tile needs less")
        sys.exit(1)
