"""``dossr-bench fleet``: what Ray costs against one process, and what killed workers do."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..measure.process import CallError
from ..rounding import significant
from ..tables import markdown_table
from .runs import Run, Runs, check_cores

_HEAD = (
    "run", "seconds", "of linear", "of processes", "images a second", "of linear", "of processes", "killed",
    "equal bytes",
)  # fmt: skip


_IMAGES_PER_WORKER = 10
"""Least images for each worker: with fewer, the ends of the runs are most of the time between results."""


@click.command("fleet", cls=Command)
@click.argument("bundle", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--images", type=click.IntRange(1), default=200, show_default=True,
              help=f"Number of images, at least {_IMAGES_PER_WORKER} for each worker.")  # fmt: skip
@click.option("--size", type=click.IntRange(16), default=64, show_default=True,
              help="Side of the LR images in pixels.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True,
              help="Workers of one core each.")  # fmt: skip
@click.option("--kills", type=click.IntRange(0), default=2, show_default=True,
              help="How often a worker is killed in the third run.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def fleet(
    bundle: Path | None,
    images: int,
    size: int,
    steps: int,
    workers: int,
    kills: int,
    file: Path | None,
) -> None:
    """Compare dossr-run --ray on this machine with dossr-run on one core, on the same images.

    Five runs: one process on one core; one process on each core, with their shares of the images; workers
    of one core each; the same while workers are killed; the same command again, which must do nothing. Every
    result must have the bytes of the first run. "Of linear" is the speed-up over one process divided by the
    number of workers; "of processes" is the speed-up over one process on each core, which is what the
    machine gives without Ray. Both are of whole processes, then from the first result to the last, without
    start and end. BUNDLE is by default the built-in demo model. Linux only.

    \b
    Examples:
      dossr-bench fleet
      dossr-bench fleet bundle --images 50 --size 128 --json fleet.json

    Exit code: 0 done, 1 a run failed or its results differ, 2 wrong use.
    """
    _check(images, workers)
    make_folders(file and file.parent)
    options = ["--steps", str(steps), *(["--bundle", str(bundle.resolve())] if bundle else [])]
    rows = _measure(options, images, size, workers, kills)
    click.echo(table(rows, workers))
    click.echo(f"\n{images} images of {size} x {size} pixels, {steps} steps; {workers} workers")
    if file is not None:
        from ..measure.provenance import save

        figures = {"bundle": str(bundle or "demo"), "images": images, "size": size, "steps": steps,
                   "workers": workers}  # fmt: skip
        save({**figures, "rows": [row.as_dict() for row in rows]}, file)
    if not all(row.equal for row in rows):
        sys.exit(1)


def _check(images: int, workers: int) -> None:
    """Raise click.UsageError where the runs cannot be measured."""
    if sys.platform != "linux":
        raise click.UsageError("dossr-bench fleet needs Linux")
    try:
        check_cores(workers)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if images < (least := _IMAGES_PER_WORKER * workers):
        raise click.UsageError(
            f"--images must be at least {_IMAGES_PER_WORKER} for each of --workers, {least}, got {images}"
        )


def _measure(options: list[str], images: int, size: int, workers: int, kills: int) -> list[Run]:
    """Return the five runs; raise ClickException where one fails."""
    with (
        tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder,
        Terminal().phase("runs", 4 * images) as advance,
    ):
        runs = Runs(Path(folder), options, workers)
        runs.write_images(images, size)
        try:
            rows = [runs.alone(advance), runs.side_by_side(advance), runs.fleet(advance)]
            return [*rows, runs.killed(kills, advance), runs.again()]
        except CallError as error:
            raise click.ClickException(str(error)) from error


def table(rows: Sequence[Run], workers: int) -> str:
    """Return the runs as a table in Markdown; the first is one process, the second one on each core."""
    alone, processes = rows[:2]
    return markdown_table(_HEAD, (_cells(row, alone, processes, workers) for row in rows))


def _cells(row: Run, alone: Run, processes: Run, workers: int) -> list[str]:
    whole, rate, steady = ["", ""], "", ["", ""]
    if not row.name.endswith("once more"):
        rate = significant(row.rate)
    if rate and row is not alone:
        whole = _shares(1 / row.seconds, 1 / alone.seconds, 1 / processes.seconds, workers)
        steady = _shares(row.rate, alone.rate, processes.rate, workers)
    if row is processes:
        whole[1] = steady[1] = ""
    return [
        row.name, significant(row.seconds), *whole, rate, *steady, str(row.killed),
        "yes" if row.equal else "no",
    ]  # fmt: skip


def _shares(
    speed: float | None, alone: float | None, processes: float | None, workers: int
) -> list[str]:
    """Return a speed as a share of linear and of one process on each core; empty where not known."""
    return [
        significant(speed / alone / workers) if speed and alone else "",
        significant(speed / processes) if speed and processes else "",
    ]
