"""A job in a fresh process: cold, with a memory peak of its own, and nothing that it breaks is ours."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Thread
from typing import IO, Any

from ...runtime.terminal import interruptible
from .provenance import free_memory

TICK = "dossr-bench tick"
"""The line on a worker's stderr for every call that is done."""

_GIB = 2**30


@dataclass(frozen=True)
class Job:
    """What a worker is told to do."""

    kind: str
    """A name in worker.KINDS."""

    system: str = ""
    network: str = ""
    size: int = 128
    reduced: bool = False
    variant: str = "torch"
    """A name in VARIANTS."""

    device: str = "cpu"
    steps: int = 5
    warmup: int = 0
    repetitions: int = 1
    files: Mapping[str, str] = field(default_factory=dict)
    """What it reads and writes, by name: exported networks, or a checkpoint, a bundle, an image."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Shapes of what the networks give, by name."""

    precisions: tuple[str, ...] = ()

    need: int = 0
    """Bytes of memory that it takes at the least."""


class JobError(RuntimeError):
    """A job gave no result; one line says why."""


def run(job: Job, tick: Callable[[int], None] = lambda count: None) -> Any:
    """What the job returns. ``tick(1)`` is called for every call of a network that is done.

    Raises JobError. The process and all that it started are gone when this returns or is broken off.
    """
    free = free_memory()
    if free is not None and job.need > free:
        raise JobError(f"lack of memory: {_needs(job, free)}")
    said: list[str] = []
    with ExitStack() as stack:
        # Ctrl-C while it starts would leave a process of which nobody knows
        process = interruptible(partial(_start, stack, tick, said), lambda: None)
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError), process.stdin:
            json.dump(asdict(job), process.stdin)
        answer = process.stdout.read()
        code = process.wait()
    if not answer:
        raise JobError(_reason(job, code, said, free))
    document = json.loads(answer)
    if "error" in document:
        raise JobError(document["error"])
    return document["result"]


def _start(stack: ExitStack, tick: Callable[[int], None], said: list[str]) -> subprocess.Popen[str]:
    """A worker, which the stack will end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dossr.bench.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us to handle
    )
    assert process.stderr is not None
    reader = Thread(target=_follow, args=(process.stderr, tick, said), daemon=True)
    stack.callback(_end, process, reader)
    reader.start()
    return process


def _end(process: subprocess.Popen[str], reader: Thread) -> None:
    with process:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join(timeout=5)


def _follow(stderr: IO[str], tick: Callable[[int], None], said: list[str]) -> None:
    with stderr:
        for line in stderr:
            if line.strip() == TICK:
                tick(1)
            elif line.strip():
                said.append(line.strip())


def _reason(job: Job, code: int, said: list[str], free: int | None) -> str:
    """Why a process ended without an answer."""
    if code == -signal.SIGKILL:
        return f"killed; likely out of memory ({_needs(job, free)})"
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"ended with {ended}{': ' + said[-1] if said else ''}"


def _needs(job: Job, free: int | None) -> str:
    known = "" if free is None else f", {free / _GIB:.1f} GiB free"
    return f"about {job.need / _GIB:.1f} GiB needed{known}"
