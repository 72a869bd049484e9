"""Run a call in a fresh process: cold, with its own memory peak; a crash there cannot reach this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import IO, TypeVar

import msgspec
from msgspec.structs import replace

from ...runtime.hardware import free_memory
from ...runtime.terminal import Advance, interruptible
from .calls import Answer, WorkerCall

R = TypeVar("R")

TICK = "dossr-bench tick"
"""The line that a worker writes to stderr after each network call or image, with the number of them."""

_GIB = 2**30


class CallError(RuntimeError):
    """A call gave no result; the message is one line."""


def cache_in(folder: Path) -> dict[str, str]:
    """Return the environment in which the runtime and torch.compile keep their caches in a folder."""
    names = ("XDG_CACHE_HOME", "LOCALAPPDATA", "TORCHINDUCTOR_CACHE_DIR")
    return dict.fromkeys(names, str(folder))


def run(
    call: WorkerCall[R],
    tick: Advance = lambda count: None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> R:
    """Return the worker's result. ``tick(count)`` is called after each network call or image,
    with a share of 1 within long images.

    ``environment`` holds variables for the worker, in addition to those of this process. Raise CallError. The process and its children are gone when this returns or is interrupted.
    """
    free = free_memory()
    if free is not None and call.need > free:
        raise CallError(f"lack of memory: {_needs(call.need, free)}")
    messages: list[str] = []
    with ExitStack() as stack:
        began = time.time()
        # Ctrl-C during the start would leave a process that nobody can end
        process = interruptible(partial(_start, stack, tick, messages, environment), lambda: None)
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError), process.stdin:
            process.stdin.write(msgspec.json.encode(replace(call, began=began)))
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
    stack: ExitStack,
    tick: Advance,
    messages: list[str],
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Start a worker that ends with the stack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dossr.bench.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
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


def _follow(stderr: IO[bytes], tick: Advance, messages: list[str]) -> None:
    with stderr:
        for line in stderr:
            text = line.decode(errors="replace").strip()
            if text.startswith(TICK):
                tick(float(text.removeprefix(TICK)))
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
