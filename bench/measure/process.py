"""Run a call in a fresh process: cold, with its own memory peak; a crash there cannot reach this process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from threading import Thread
from typing import IO, TypeVar

import msgspec

from ...runtime.hardware import free_memory
from ...runtime.terminal import interruptible
from .calls import Answer, WorkerCall

R = TypeVar("R")

TICK = "dossr-bench tick"
"""The line that a worker writes to stderr after each network call."""

_GIB = 2**30


class CallError(RuntimeError):
    """A call gave no result; the message is one line."""


def run(call: WorkerCall[R], tick: Callable[[int], None] = lambda count: None) -> R:
    """Return the worker's result. ``tick(1)`` is called after each network call.

    Raise CallError. The process and its children are gone when this returns or is interrupted.
    """
    free = free_memory()
    if free is not None and call.need > free:
        raise CallError(f"lack of memory: {_needs(call.need, free)}")
    messages: list[str] = []
    with ExitStack() as stack:
        # Ctrl-C during the start would leave a process that nobody can end
        process = interruptible(partial(_start, stack, tick, messages), lambda: None)
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(msgspec.json.encode(call))
        document = process.stdout.read()
        code = process.wait()
    if not document:
        raise CallError(_reason(call.need, code, messages, free))
    answer = msgspec.json.decode(document, type=Answer)
    if answer.error:
        raise CallError(answer.error)
    result: R = msgspec.json.decode(answer.result, type=call.RESULT)
    return result


def _start(
    stack: ExitStack, tick: Callable[[int], None], messages: list[str]
) -> subprocess.Popen[bytes]:
    """Start a worker that ends with the stack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dossr.bench.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # this process handles Ctrl-C
    )
    assert process.stderr is not None
    reader = Thread(target=_follow, args=(process.stderr, tick, messages), daemon=True)
    stack.callback(_end, process, reader)
    reader.start()
    return process


def _end(process: subprocess.Popen[bytes], reader: Thread) -> None:
    with process:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join(timeout=5)


def _follow(stderr: IO[bytes], tick: Callable[[int], None], messages: list[str]) -> None:
    with stderr:
        for line in stderr:
            text = line.decode(errors="replace").strip()
            if text == TICK:
                tick(1)
            elif text:
                messages.append(text)


def _reason(need: int, code: int, messages: list[str], free: int | None) -> str:
    """Return why a process ended without an answer."""
    if code == -signal.SIGKILL:
        return f"killed; likely out of memory ({_needs(need, free)})"
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"ended with {ended}{': ' + messages[-1] if messages else ''}"


def _needs(need: int, free: int | None) -> str:
    known = "" if free is None else f", {free / _GIB:.1f} GiB free"
    return f"about {need / _GIB:.1f} GiB needed{known}"
