"""Runs of dossr-run over a folder that are ended at any time, and the runs that do the rest."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import subject
from PIL import Image
from workers import Report

IMAGES = 14
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
_END_S = 15.0
"""How long a run may take to end once it was asked to."""


class Kills:
    name, limit_s, per_fork, address_space = "kills", 90.0, 1, 0

    def __init__(self) -> None:
        shared = Path(os.environ["RELIABILITY_SHARED"])
        self._inputs, self._reference = shared / "in", shared / "reference"
        for number in range(IMAGES):
            path = self._inputs / f"{'ab'[number % 2]}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            side = 12 + number
            noise = np.random.default_rng(number).integers(0, 256, (side, side, 3))
            Image.fromarray(noise.astype(np.uint8)).save(path)
        began = time.monotonic()
        done = self._run(self._reference)
        self._seconds = time.monotonic() - began
        if done.returncode != 0 or len(_files(self._reference)) != IMAGES:
            raise RuntimeError(f"dossr-run does not work: {done.stderr}")

    def build(self, seed: int, folder: Path) -> str:
        """Return the plan of a seed: a signal and its moment."""
        number, after, at_file = self._plan(seed)
        moment = f"at the temporary file {at_file}" if at_file else f"after {after:.2f} s"
        return f"{number.name} {moment}"

    def check(self, seed: int, folder: Path) -> Report:
        report, out = Report(seed), folder / "out"
        number, after, at_file = self._plan(seed)
        code, errors = self._ended(out, number, after, at_file)
        finished = self._compare(report, out, "after the signal")
        hidden = _files(out) - _files(self._reference)
        if number == signal.SIGKILL:
            report.outcome = f"SIGKILL with {'a file' if hidden else 'no file'} half done"
        else:
            report.outcome = f"{number.name}, exit code {code}"
            self._check_end(report, code, number, errors, hidden)
        if code == 0:
            report.outcome = "ended before the signal"
        self._rerun(report, out, finished)
        return report

    def _plan(self, seed: int) -> tuple[signal.Signals, float, int]:
        """The signal, when it is sent in seconds, and at which temporary file instead, or 0."""
        rng = random.Random(f"kill {seed}")
        number, where = rng.choice(_SIGNALS), rng.random()
        if where < 0.4:
            return number, 0.0, rng.randint(1, IMAGES)
        early = where > 0.8  # while modules are imported
        return number, rng.uniform(*((0.03, 0.3) if early else (0.2, 1.0))) * self._seconds, 0

    def _ended(
        self, out: Path, number: signal.Signals, after: float, at_file: int
    ) -> tuple[int, str]:
        """Start a run and end it; return exit code and stderr."""
        process = subprocess.Popen(
            self._command(out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        began = time.monotonic()
        if at_file:
            _wait_for_file(process, out, at_file)
        else:
            time.sleep(max(0.0, after - (time.monotonic() - began)))
        process.send_signal(number)
        try:
            errors = process.communicate(timeout=_END_S)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            return -99, process.communicate()[1]
        return process.returncode, errors

    def _check_end(
        self, report: Report, code: int, number: int, errors: str, hidden: set[str]
    ) -> None:
        """Check that a run that was asked to end did so cleanly."""
        if code not in (0, 1, 130, 143, -number):
            report.fault("wrong end", f"exit code {code}: {errors}")
        ours = any(str(subject.PACKAGE / room) in errors for room in ("runtime", "solvers"))
        if "Traceback" in errors and ours:
            report.fault("traceback at a signal", errors)
        if hidden:
            report.fault("files are left after a signal", sorted(hidden))

    def _rerun(self, report: Report, out: Path, finished: set[str]) -> None:
        """Do the rest; check that it was the rest, and that nothing else remains."""
        done = self._run(out, "--skip-existing", "--json")
        if done.returncode != 0:
            report.fault("the second run fails", done.stderr)
            return
        if done.stderr:
            report.fault("output on stderr", done.stderr)
        results = json.loads(done.stdout)["results"]
        written = {str(Path(result["output"]).relative_to(out)) for result in results}
        rest = _files(self._reference) - finished
        if written != rest:
            report.fault("the second run does not do the rest", f"{written} written, {rest} wanted")
        self._compare(report, out, "after the second run")
        names = _files(out)
        if names - _files(self._reference):
            report.fault("files are left", sorted(names - _files(self._reference)))
        if _files(self._reference) - names:
            report.fault("files are missing", sorted(_files(self._reference) - names))

    def _compare(self, report: Report, out: Path, when: str) -> set[str]:
        """The outputs that are there, each checked against the reference."""
        names = _files(out) & _files(self._reference)
        wrong = [n for n in names if (out / n).read_bytes() != (self._reference / n).read_bytes()]
        if wrong:
            report.fault(f"wrong files {when}", sorted(wrong))
        return names

    def _run(self, out: Path, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*self._command(out), *options], capture_output=True, text=True, timeout=60
        )

    def _command(self, out: Path) -> list[str]:
        options = ["-b", str(subject.DEMO), "--steps", "1"]
        return [*subject.dossr_run(), str(self._inputs), "-o", str(out), *options]


def _wait_for_file(process: subprocess.Popen, out: Path, count: int) -> None:
    """Wait for a file that is no finished output, once there are ``count - 1`` of those."""
    while process.poll() is None:
        names = _files(out)
        finished = {name for name in names if not Path(name).name.startswith(".")}
        if len(finished) >= IMAGES or (len(finished) >= count - 1 and names - finished):
            return


def _files(folder: Path) -> set[str]:
    """Every file below a folder, hidden ones too, by its relative path."""
    return {
        str((Path(parent) / name).relative_to(folder))
        for parent, _, names in os.walk(folder)
        for name in names
    }
