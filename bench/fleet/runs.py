"""Runs of ``dossr-run`` on the same images: one process, several, Ray, with workers killed, and once more."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ...runtime.hardware import usable_cores
from ...runtime.launch import python_command
from ..measure.contenders import lr_image
from ..measure.process import CallError

_RUN = python_command("from dossr.runtime.launch import run; run()")
_WORKER = b"ray::MapWorker"
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Run:
    """One or several processes of ``dossr-run`` and their results."""

    name: str
    seconds: float
    """From the start of the processes to the end of the last one."""

    images: int
    rate: float | None
    """Images a second from the first result to the last, without the start and each worker's first image.

    None where all results have one time.
    """

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
        self._cores = sorted(os.sched_getaffinity(0))[:workers]

    def write_images(self, count: int, size: int) -> None:
        """Write photographs with different noise, all in one folder and a share for each worker in others."""
        photo = lr_image(size).astype(int)
        for number in range(count):
            noise = np.random.default_rng(number).integers(-8, 9, photo.shape)
            pixels = np.clip(photo + noise, 0, 255).astype(np.uint8)
            for folder in (self._photos, self._share(number % self._workers)):
                folder.mkdir(exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{number:05d}.png")

    def alone(self, advance: Callable[[float], None]) -> Run:
        """Run one process on one core."""
        first = _Process(self._photos, self._cores[:1])
        return self._run("dossr-run, one core", "alone", [first], (), 0, advance)

    def side_by_side(self, advance: Callable[[float], None]) -> Run:
        """Run one process on each core, with its share of the images."""
        processes = [_Process(self._share(n), [core]) for n, core in enumerate(self._cores)]
        name = f"dossr-run, {self._workers} processes"
        return self._run(name, "processes", processes, (), 0, advance)

    def fleet(self, advance: Callable[[float], None]) -> Run:
        """Run workers of one core each."""
        return self._fleet(f"--ray, {self._workers} workers", "fleet", 0, advance)

    def killed(self, kills: int, advance: Callable[[float], None]) -> Run:
        """Run workers and kill one of them, several times, at equal shares of the work."""
        return self._fleet(f"--ray, a worker killed {kills} times", "killed", kills, advance)

    def again(self) -> Run:
        """Run workers on what is done already; raise CallError if anything is written."""
        before = _state(self._scratch / "killed")
        run = self._fleet("--ray, once more", "killed", 0, lambda _: None)
        if _state(self._scratch / "killed") != before:
            raise CallError("the rerun changed results that were there")
        return run

    @property
    def _photos(self) -> Path:
        return self._scratch / "photos"

    def _share(self, worker: int) -> Path:
        return self._scratch / f"share-{worker}"

    def _fleet(self, name: str, out: str, kills: int, advance: Callable[[float], None]) -> Run:
        options = "--ray", "local", "--workers", str(self._workers)
        processes = [_Process(self._photos, self._cores)]
        return self._run(name, out, processes, options, kills, advance)

    def _run(
        self,
        name: str,
        out: str,
        processes: Sequence["_Process"],
        options: Sequence[str],
        kills: int,
        advance: Callable[[float], None],
    ) -> Run:
        folder, total = self._scratch / out, len(list(self._photos.iterdir()))
        options = ["-o", str(folder), "--threads", "1", *self._options, *options]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
            began = time.perf_counter()
            with ExitStack() as stack:
                started = [
                    stack.enter_context(process.started(options, messages)) for process in processes
                ]
                killer = _Killer(started, folder, total, kills)
                killer.watch(advance)
            seconds = time.perf_counter() - began
            messages.seek(0)
            told = [line.strip() for line in messages if line.strip()]
        for process in started:
            if process.returncode:
                raise CallError(told[-1] if told else f"ended with exit code {process.returncode}")
        times = [path.stat().st_mtime for path in folder.glob("*.png")]
        workers = sum(len(process.cores) for process in processes)
        equal = _bytes(folder) == _bytes(self._scratch / "alone") and len(times) == total
        equal = equal and _lines(folder) == (total if "--ray" in options else 0)
        return Run(name, seconds, len(times), find_rate(times, workers), killer.killed, equal)


def find_rate(times: Sequence[float], workers: int) -> float | None:
    """Return the results a second after the first, from their times in seconds; None if those are all one.

    One image of each worker does not count: it was begun before the first result. So the rate is never too high.
    """
    window = max(times) - min(times)
    return (len(times) - workers) / window if window else None


@dataclass(frozen=True)
class _Process:
    """A process of ``dossr-run``: its images and its cores."""

    images: Path
    cores: Sequence[int]

    def started(self, options: Sequence[str], messages: IO[str]) -> "subprocess.Popen[bytes]":
        """Start it; it and its children stay on their cores."""
        return subprocess.Popen(
            [*_RUN, str(self.images), *options],
            stdout=subprocess.DEVNULL,
            stderr=messages,
            preexec_fn=lambda: os.sched_setaffinity(0, self.cores),
        )


class _Killer:
    """Watches the results of processes and kills the workers of the first at equal shares of the work."""

    def __init__(
        self, processes: Sequence["subprocess.Popen[bytes]"], folder: Path, total: int, kills: int
    ) -> None:
        self._processes, self._folder, self._total, self._kills = processes, folder, total, kills
        self.killed = 0
        self._seen = 0

    def watch(self, advance: Callable[[float], None]) -> None:
        """Wait for all processes; report new results."""
        try:
            while any(process.poll() is None for process in self._processes):
                time.sleep(_POLL)
                self._look(advance)
        except BaseException:
            for process in self._processes:
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
            workers = list(find_workers(self._processes[0].pid))
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
