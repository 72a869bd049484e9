"""``dossr-bench seeds``: several seeds in one run against as many runs of one seed."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from ..runtime.errors import EngineError, reason
from ..runtime.launch import python_command
from ..runtime.terminal import Advance, Command, Terminal
from .folders import make_folders
from .measure.calls import least_warmup
from .measure.contenders import lr_image
from .measure.process import CallError
from .rounding import gibibytes, significant
from .sides import Side, device_option, find_sides, open_side, precision_option
from .tables import markdown_table

_FIRST = 42
_RUN = """
import atexit, sys, time
from dossr.bench.measure.memory import process_peak
atexit.register(lambda: print("peak", process_peak() or 0, time.process_time(), file=sys.stderr))
from dossr.runtime.launch import run
run()
"""
_HEAD = ("precision, device", "single runs (s)", "--seeds (s)", "ratio", "ratio of processor time", "peak of a single run (GiB)",
         "peak of --seeds (GiB)", "ratio", "the same bytes")  # fmt: skip


@dataclass
class Pair:
    """Single runs and one run with several seeds, measured one after the other."""

    side: Side
    what: str
    single_s: list[float] = field(default_factory=list)
    """The sum over all seeds, for each repetition."""

    seeds_s: list[float] = field(default_factory=list)
    single_cpu_s: list[float] = field(default_factory=list)
    """Processor time of all threads, which other load on the machine does not stretch."""

    seeds_cpu_s: list[float] = field(default_factory=list)
    single_bytes: int | None = None
    """Largest peak of a process."""

    seeds_bytes: int | None = None
    is_equal: bool = True
    """Whether each image has the bytes of its single run."""

    failed: str = ""

    @property
    def time_ratio(self) -> float | None:
        """Time of several seeds over that of the single runs, of the fastest repetitions."""
        return min(self.seeds_s) / min(self.single_s) if self.seeds_s else None

    @property
    def cpu_ratio(self) -> float | None:
        """The same of processor time."""
        return min(self.seeds_cpu_s) / min(self.single_cpu_s) if self.seeds_cpu_s else None

    @property
    def memory_ratio(self) -> float | None:
        """Peak of several seeds over that of a single run."""
        if not self.single_bytes or not self.seeds_bytes:
            return None
        return self.seeds_bytes / self.single_bytes

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and all ratios."""
        return {
            **asdict(self),
            "time_ratio": self.time_ratio,
            "cpu_ratio": self.cpu_ratio,
            "memory_ratio": self.memory_ratio,
        }


@click.command("seeds", cls=Command)
@click.argument("bundle", required=False, type=click.Path(exists=True, path_type=Path))
@device_option
@precision_option
@click.option("--seeds", "count", type=click.IntRange(2), default=8, show_default=True,
              help="Number of draws.")  # fmt: skip
@click.option("--size", type=click.IntRange(1), default=128, show_default=True,
              help="Side of the LR image in pixels.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1), default=1, show_default=True,
              help="How often both are measured, in turn; the fastest counts.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def seeds(
    bundle: Path | None,
    devices: tuple[str, ...],
    precisions: tuple[str, ...],
    count: int,
    size: int,
    steps: int,
    repetitions: int,
    file: Path | None,
) -> None:
    """Measure one run with several seeds against as many runs of one seed each.

    Both are run as processes of dossr-run, from start to end with files, and as calls of one open
    pipeline. The images must be the same, to the byte. BUNDLE is by default the built-in demo model.

    \b
    Examples:
      dossr-bench seeds
      dossr-bench seeds bundle --device cpu --device openvino --json seeds.json

    Exit code: 0 done, 1 an image differs or a row failed, 2 wrong use.
    """
    sides = find_sides(devices, precisions)
    make_folders(file and file.parent)
    whats = (f"{count} processes", f"{count} calls")
    pairs = [Pair(side, what) for side in sides for what in whats]
    image = lr_image(size)
    with Terminal().phase("runs", len(pairs) * repetitions * 2 * count) as advance:
        for processes, calls in zip(pairs[::2], pairs[1::2], strict=True):
            for _ in range(repetitions):
                measure_processes(processes, bundle, image, (steps, count), advance)
            measure_calls(calls, bundle, image, (steps, count, repetitions), advance)
    click.echo(table(pairs))
    click.echo(
        f"\n{size} x {size} pixels, {steps} steps, seeds {_FIRST} to {_FIRST + count - 1}; processes: from "
        "start to end, with files; calls: of one open pipeline, without files"
    )
    if file is not None:
        from .measure.provenance import save

        about = {"bundle": str(bundle or "demo"), "size": size, "steps": steps, "seeds": count}
        save({**about, "rows": [pair.as_dict() for pair in pairs]}, file)
    if any(pair.failed or not pair.is_equal for pair in pairs):
        sys.exit(1)


def measure_processes(
    pair: Pair, bundle: Path | None, image: np.ndarray, counts: tuple[int, int], advance: Advance
) -> None:
    """Run dossr-run once for each seed, then once for all; ``counts``: steps, seeds."""
    steps, count = counts
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as name:
        folder = Path(name)
        Image.fromarray(image).save(folder / "photo.png")
        precision = [w for each in pair.side.precision.split(",") for w in ("--precision", each)]
        options = [str(folder / "photo.png"), "--steps", str(steps), "--device", pair.side.device,
                   *precision, *(["--bundle", str(bundle.resolve())] if bundle else [])]  # fmt: skip
        try:
            single = []
            for seed in range(_FIRST, _FIRST + count):
                target = folder / "single" / f"photo.seed{seed}.png"
                single.append(_timed([*options, "-o", str(target), "--seed", str(seed)]))
                advance(1)
            several = _timed([*options, "-o", str(folder / "several" / "photo.png"), "--seed",
                              str(_FIRST), "--seeds", str(count)])  # fmt: skip
            advance(count)
        except CallError as error:
            pair.failed = str(error)
            return
        pair.single_s.append(sum(each.seconds for each in single))
        pair.single_cpu_s.append(sum(each.cpu_s for each in single))
        pair.single_bytes = max([pair.single_bytes or 0, *(each.peak for each in single)])
        pair.seeds_s.append(several.seconds)
        pair.seeds_cpu_s.append(several.cpu_s)
        pair.seeds_bytes = max(pair.seeds_bytes or 0, several.peak)
        for path in (folder / "single").iterdir():
            other = folder / "several" / path.name
            pair.is_equal &= other.is_file() and path.read_bytes() == other.read_bytes()


def measure_calls(
    pair: Pair,
    bundle: Path | None,
    image: np.ndarray,
    counts: tuple[int, int, int],
    advance: Advance,
) -> None:
    """Upscale once for each seed, then once for all; ``counts``: steps, seeds, repetitions.

    What cannot be opened or run is told in the row.
    """
    try:
        _call(pair, bundle, image, counts, advance)
    except (click.UsageError, ModuleNotFoundError, EngineError) as error:
        pair.failed = reason(error)


def _call(
    pair: Pair,
    bundle: Path | None,
    image: np.ndarray,
    counts: tuple[int, int, int],
    advance: Advance,
) -> None:
    steps, count, repetitions = counts
    pipeline = open_side(bundle, pair.side.device, tuple(pair.side.precision.split(",")))
    for _ in range(1 + least_warmup(pair.side.device)):
        pipeline.upscale(image, steps=1)
    for _ in range(repetitions):
        began = time.perf_counter(), time.process_time()
        single = [
            pipeline.upscale(image, steps=steps, seed=_FIRST + number) for number in range(count)
        ]
        middle = time.perf_counter(), time.process_time()
        advance(count)
        several = pipeline.upscale(image, steps=steps, seed=_FIRST, seeds=count)
        ended = time.perf_counter(), time.process_time()
        advance(count)
        pair.single_s.append(middle[0] - began[0])
        pair.single_cpu_s.append(middle[1] - began[1])
        pair.seeds_s.append(ended[0] - middle[0])
        pair.seeds_cpu_s.append(ended[1] - middle[1])
        pair.is_equal &= all(map(np.array_equal, single, several))


@dataclass(frozen=True)
class _Ended:
    """A process that has ended."""

    seconds: float
    cpu_s: float
    peak: int
    """In bytes."""


def _timed(options: Sequence[str]) -> _Ended:
    """Run dossr-run. Raise CallError where it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        [*python_command(_RUN), *options], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    *messages, last = done.stderr.strip().splitlines() or ["peak 0 0"]
    if done.returncode:
        raise CallError(messages[-1] if messages else f"exit code {done.returncode}")
    _, peak, cpu_s = last.split()
    return _Ended(seconds, float(cpu_s), int(peak))


def table(pairs: Sequence[Pair]) -> str:
    """Return the pairs as a table in Markdown."""
    return markdown_table(_HEAD, map(_cells, pairs))


def _cells(pair: Pair) -> list[str]:
    return [
        f"{pair.side.precision}, {pair.side.device}, {pair.what}",
        f"failed: {pair.failed}" if pair.failed else significant(min(pair.single_s)),
        significant(min(pair.seeds_s, default=None)),
        significant(pair.time_ratio),
        significant(pair.cpu_ratio),
        gibibytes(pair.single_bytes),
        gibibytes(pair.seeds_bytes),
        significant(pair.memory_ratio),
        "-" if pair.failed else "yes" if pair.is_equal else "no",
    ]
