"""Run cases in forked workers: a crash, a hang or output on stderr of a case is recorded, and ends nothing else.

A case is known by its kind and its seed alone. The parent process must have a single thread, so it
never opens an ONNX Runtime session; the workers do.
"""

import faulthandler
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

MAX_MESSAGE = 600


@dataclass
class Report:
    """What one case showed."""

    seed: int
    outcome: str = "none"
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of a kind and a detail."""

    def fault(self, kind: str, detail: object = "") -> None:
        self.faults.append((kind, str(detail)[:2000]))

    def check_message(self, error: BaseException) -> None:
        """Record a fault where the message of an error is no single short line."""
        message = str(error)
        if len(message.splitlines()) != 1:
            self.fault("message is not one line", message)
        elif len(message) > MAX_MESSAGE:
            self.fault("message is too long", f"{len(message)} characters: {message}")

    def foreign(self, where: str, error: BaseException) -> None:
        """Record an exception that the interface does not promise."""
        lines = "".join(traceback.format_exception(error))[-1800:]
        self.fault(f"{type(error).__name__} from {where}", lines)


class Kind(Protocol):
    """One kind of cases."""

    name: str
    limit_s: float
    """Wall time per case."""

    per_fork: int
    """How many cases a worker runs before a new one is forked."""

    address_space: int
    """RLIMIT_AS in bytes, or 0."""

    def build(self, seed: int, folder: Path) -> str:
        """Write the files of a case into an empty folder; return a description."""
        ...

    def check(self, seed: int, folder: Path) -> Report:
        """Build a case in an empty folder and run it."""
        ...


@dataclass
class _Worker:
    pid: int
    pipe: int
    log: Path
    seeds: deque[int]
    deadline: float
    unread: bytes = b""
    timed_out: bool = False


def run_cases(kind: Kind, seeds: Iterable[int], jobs: int, done: Callable[[Report], None]) -> None:
    """Run every case of a kind, ``jobs`` at a time; ``done`` gets each report, in any order."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("the parent of forked workers must have a single thread")
    waiting = deque(seeds)
    selector = selectors.DefaultSelector()
    root = Path(tempfile.mkdtemp(prefix="reliability-", dir=memory_folder()))
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                part = deque(waiting.popleft() for _ in range(min(kind.per_fork, len(waiting))))
                workers.append(_fork(kind, part, root))
                selector.register(workers[-1].pipe, selectors.EVENT_READ, workers[-1])
            for key, _ in selector.select(timeout=0.2):
                if not _read(key.data, kind, done):
                    selector.unregister(key.data.pipe)
                    workers.remove(key.data)
                    waiting.extendleft(reversed(_bury(key.data, done)))
            for worker in workers:
                if time.monotonic() > worker.deadline and not worker.timed_out:
                    worker.timed_out = True
                    _kill(worker)
    finally:
        for worker in workers:
            _kill(worker)
            os.waitpid(worker.pid, 0)
        shutil.rmtree(root, ignore_errors=True)


def memory_folder() -> str | None:
    """Return a folder in memory, where the system has one: the cases write many small files."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _fork(kind: Kind, seeds: deque[int], root: Path) -> _Worker:
    folder = Path(tempfile.mkdtemp(dir=root))
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            os.close(ours)
            _work(kind, seeds, folder, theirs)
            code = 0
        except BaseException:  # of the suite itself, or MemoryError where nothing else fits
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(theirs)
    return _Worker(pid, ours, folder / "stderr", seeds, time.monotonic() + kind.limit_s)


def _work(kind: Kind, seeds: Iterable[int], folder: Path, pipe: int) -> None:
    """Run the cases of one worker; stdout and stderr go to a file, and must stay empty."""
    log = os.open(folder / "stderr", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(log)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if kind.address_space:
        resource.setrlimit(resource.RLIMIT_AS, (kind.address_space, kind.address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    case = folder / "case"
    for seed in seeds:
        case.mkdir()
        os.environ["TMPDIR"], tempfile.tempdir = str(case), None
        report = kind.check(seed, case)
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fstat(log).st_size:
            report.fault("output on stderr", (folder / "stderr").read_bytes()[:2000])
            os.ftruncate(log, 0)
        shutil.rmtree(case)
        line = json.dumps([report.seed, report.outcome, report.faults]) + "\n"
        os.write(pipe, line.encode())


def _read(worker: _Worker, kind: Kind, done: Callable[[Report], None]) -> bool:
    """Take the reports that a worker has written; False at its end."""
    data = os.read(worker.pipe, 1 << 16)
    *lines, worker.unread = (worker.unread + data).split(b"\n")
    for line in lines:
        seed, outcome, faults = json.loads(line)
        worker.seeds.popleft()
        worker.deadline = time.monotonic() + kind.limit_s
        done(Report(seed, outcome, [tuple(fault) for fault in faults]))
    return bool(data)


def _bury(worker: _Worker, done: Callable[[Report], None]) -> list[int]:
    """Reap a worker; report the case that it died of, and return those that it leaves."""
    os.close(worker.pipe)
    status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
    log = worker.log.read_bytes() if worker.log.exists() else b""
    shutil.rmtree(worker.log.parent, ignore_errors=True)
    if worker.seeds:
        report = Report(worker.seeds.popleft(), "died")
        if worker.timed_out:
            report.fault("hang", log[-2000:].decode(errors="replace"))
        else:
            how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
            report.fault(f"crash: {how}", log[-2000:].decode(errors="replace"))
        done(report)
    return list(worker.seeds)


def _kill(worker: _Worker) -> None:
    """End a worker and what it has started: it leads a process group of its own."""
    for end in (os.killpg, os.kill):
        try:
            end(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
