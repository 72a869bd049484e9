"""Runs of ``dossr-run`` on the same images: alone, on Ray, on Ray with workers killed, and once more."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...runtime.hardware import usable_cores
from ..measure.contenders import lr_image
from ..measure.process import CallError

_RUN = (sys.executable, "-c", "from dossr.runtime.launch import run; run()")
_WORKER = b"ray::MapWorker"
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Run:
    """One process of ``dossr-run`` and its results."""

    name: str
    seconds: float
    """From the start of the process to its end."""

    images: int
    rate: float | None
    """Images a second from the first result to the last, without the start; None for one image."""

    killed: int
    equal: bool
    """Whether every result has the bytes of the first run, there is no other file, and the manifest of a run
    on Ray has one line for each."""

    def as_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return asdict(self)


class Runs:
    """Runs one command line in a scratch folder."""

    def __init__(self, scratch: Path, options: Sequence[str], workers: int) -> None:
        self._scratch, self._options, self._workers = scratch, options, workers

    def write_images(self, count: int, size: int) -> None:
        """Write photographs with different noise."""
        folder = self._scratch / "photos"
        folder.mkdir()
        photo = lr_image(size).astype(int)
        for number in range(count):
            noise = np.random.default_rng(number).integers(-8, 9, photo.shape)
            pixels = np.clip(photo + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:05d}.png")

    def alone(self, advance: Callable[[float], None]) -> Run:
        """Run one process on one core."""
        return self._run("dossr-run, one core", "alone", 1, (), 0, advance)

    def fleet(self, advance: Callable[[float], None]) -> Run:
        """Run workers of one core each."""
        name = f"--ray, {self._workers} workers"
        return self._run(name, "fleet", self._workers, self._ray(), 0, advance)

    def killed(self, kills: int, advance: Callable[[float], None]) -> Run:
        """Run workers and kill one of them, several times, at equal shares of the work."""
        name = f"--ray, a worker killed {kills} times"
        return self._run(name, "killed", self._workers, self._ray(), kills, advance)

    def again(self) -> Run:
        """Run workers on what is done already; raise CallError if anything is written."""
        before = _state(self._scratch / "killed")
        run = self._run("--ray, once more", "killed", self._workers, self._ray(), 0, lambda _: None)
        if _state(self._scratch / "killed") != before:
            raise CallError("the rerun changed results that were there")
        return run

    def _ray(self) -> tuple[str, ...]:
        return "--ray", "local", "--workers", str(self._workers)

    def _run(
        self,
        name: str,
        out: str,
        cores: int,
        options: Sequence[str],
        kills: int,
        advance: Callable[[float], None],
    ) -> Run:
        folder = self._scratch / out
        command = [
            *_RUN, str(self._scratch / "photos"), "-o", str(folder), "--threads", "1", *self._options,
            *options,
        ]  # fmt: skip
        total = len(list((self._scratch / "photos").iterdir()))
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
            began = time.perf_counter()
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=messages, preexec_fn=_on_cores(cores)
            ) as process:
                killer = _Killer(process.pid, folder, total, kills)
                killer.watch(process, advance)
            seconds = time.perf_counter() - began
            messages.seek(0)
            told = [line.strip() for line in messages if line.strip()]
        if process.returncode:
            raise CallError(told[-1] if told else f"ended with exit code {process.returncode}")
        times = sorted(path.stat().st_mtime for path in folder.glob("*.png"))
        window = times[-1] - times[0]
        rate = (len(times) - 1) / window if window else None
        equal = _bytes(folder) == _bytes(self._scratch / "alone") and len(times) == total
        equal = equal and _lines(folder) == (total if options else 0)
        return Run(name, seconds, len(times), rate, killer.killed, equal)


class _Killer:
    """Watches the results of a process and kills its workers at equal shares of the work."""

    def __init__(self, process: int, folder: Path, total: int, kills: int) -> None:
        self._process, self._folder, self._total, self._kills = process, folder, total, kills
        self.killed = 0
        self._seen = 0

    def watch(self, process: "subprocess.Popen[bytes]", advance: Callable[[float], None]) -> None:
        """Wait for the process; report new results."""
        try:
            while process.poll() is None:
                time.sleep(_POLL)
                self._look(advance)
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        self._look(advance)

    def _look(self, advance: Callable[[float], None]) -> None:
        found = len(list(self._folder.glob("*.png"))) if self._folder.exists() else 0
        advance(found - self._seen)
        self._seen = found
        if self.killed < self._kills and found >= self._total * (self.killed + 1) // (
            self._kills + 1
        ):
            workers = list(find_workers(self._process))
            if workers:
                os.kill(workers[self.killed % len(workers)], signal.SIGKILL)
                self.killed += 1


def find_workers(ancestor: int) -> Iterator[int]:
    """Yield the workers of Ray among the descendants of a process. Linux only."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    for process in sorted(parents):
        above = process
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and process != ancestor and _is_worker(process):
            yield process


def _is_worker(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(_WORKER)
    except OSError:
        return False


def _on_cores(count: int) -> Callable[[], None]:
    """Return a function that keeps a new process and its children on some cores of this one."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    return lambda: os.sched_setaffinity(0, cores)


def check_cores(workers: int) -> None:
    """Raise ValueError if there are fewer cores than workers, which would measure something else."""
    if workers > usable_cores():
        raise ValueError(f"--workers must be at most the {usable_cores()} cores, got {workers}")


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _lines(folder: Path) -> int:
    """Return the number of lines of a manifest."""
    parts = folder.glob("_manifest/*.jsonl")
    return sum(part.read_bytes().count(b"\n") for part in parts)


def _state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
