"""``dossr-bench predict-check``: predicted against measured, stage by stage."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.bundle import DEMO
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..measure.calls import PipelineTime, TimeBundle
from ..measure.process import CallError, cache_in, run
from ..rounding import significant
from ..tables import markdown_table
from .cli import read_bundle

if TYPE_CHECKING:
    from .check import Check

_PAPER = ("v100-sxm2-16gb", ("fp32", "fp16"))
_TRIES = 5
"""Measurements of a limit, of which the fastest counts: other work only slows them."""

_HEAD = ("run", "stage", "predicted, at least [s]", "measured [s]", "predicted / measured")


@click.command("predict-check", cls=Command)
@click.argument("files", nargs=-1, metavar="[RESULTS]...",
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--bundle", metavar="BUNDLE",
              help="Also time the stages of this bundle here; demo: the built-in one.")  # fmt: skip
@click.option("--device", type=click.Choice(("cpu", "openvino")), default="cpu", show_default=True,
              help="Device of the bundle.")  # fmt: skip
@click.option("--size", type=click.IntRange(1), default=64, show_default=True,
              help="Side of the bundle's LR image.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps of the bundle.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1), default=3, show_default=True,
              help="Timed images of the bundle; the least time of each stage is compared.")  # fmt: skip
@click.option("--paper", is_flag=True,
              help="Also compare the V100's published rates with the latencies of the paper.")  # fmt: skip
@click.option("--bandwidth", type=click.FloatRange(0.0, min_open=True), metavar="GB/S",
              help="Bandwidth of the memory where RESULTS were measured.  [default: measured here]")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def predict_check(
    files: tuple[Path, ...],
    bundle: str | None,
    device: str,
    size: int,
    steps: int,
    repetitions: int,
    paper: bool,
    bandwidth: float | None,
    file: Path | None,
) -> None:
    """Compare predicted with measured times, stage by stage, on processors.

    The predictions rest on the measured rate of the processor's matrix product, which RESULTS of
    table1 and pipeline hold, and on the measured bandwidth of its memory.

    \b
    Examples:
      dossr-bench predict-check docs/results/pipeline-openvino.json
      dossr-bench predict-check --bundle demo
      dossr-bench predict-check --paper
    """
    make_folders(file and file.parent)
    speed = bandwidth * 1e9 if bandwidth else _bandwidth() if files or bundle else 0.0
    found = [check for path in files for check in _file(path, speed)]
    if bundle is not None:
        where = str(DEMO if bundle == "demo" else bundle)
        call = TimeBundle(
            bundle=where, device=device, size=size, steps=steps, warmup=1, repetitions=repetitions,
            precision="fp32",
        )  # fmt: skip
        found += _here(bundle, call, speed)
    if paper:
        found += _paper()
    if not found:
        raise click.UsageError("nothing to check: give RESULTS, --bundle or --paper")
    click.echo(text(found, speed))
    if file is not None:
        from ..measure.provenance import save

        rows = [{**asdict(each), "ratio": each.ratio} for each in found]
        save(
            {"kind": "predicted against measured", "bytes_per_s": speed or None, "rows": rows}, file
        )


def text(found: "Sequence[Check]", bytes_per_s: float) -> str:
    """Return the checks as a table, with the median of all ratios; 0 bytes per second: none was needed."""
    rows = [
        (each.run, each.stage, *map(significant, (each.predicted, each.measured, each.ratio)))
        for each in found
    ]
    median = statistics.median(each.ratio for each in found)
    notes = f"median of predicted / measured: {significant(median)}"
    if bytes_per_s:
        notes += f"; bandwidth {significant(bytes_per_s / 1e9)} GB/s"
    return f"{markdown_table(_HEAD, rows)}\n\n{notes}"


def _bandwidth() -> float:
    from .triad import time_triad

    with Terminal().phase("bandwidth of the memory"):
        return max(time_triad() for _ in range(_TRIES))


def _file(path: Path, bytes_per_s: float) -> "list[Check]":
    from .check import check_file

    try:
        with Terminal().phase(f"{path.name}: counting"):
            return check_file(path, bytes_per_s)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _paper() -> "list[Check]":
    from .check import check_paper
    from .devices import read_catalogue

    name, precisions = _PAPER
    (device,) = read_catalogue().find([name])
    with Terminal().phase("counting"):
        return check_paper(device, precisions)


def _here(bundle: str, call: TimeBundle, bytes_per_s: float) -> "list[Check]":
    """Time the stages of a bundle on this processor and compare them with its roofline."""
    import torch

    from ..measure.matmul import time_matmul
    from .check import Processor, checks
    from .predictions import bundle_networks, count_stages

    try:
        works = count_stages(bundle_networks(read_bundle(bundle), call.size, call.steps))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    time = _timed(call)
    with Terminal().phase("matrix product"):
        rate = max(time_matmul(torch.device("cpu"), "fp32") for _ in range(_TRIES))
    line = Processor({"fp32": rate}, bytes_per_s).line("fp32", is_fused=True)
    least = {stage: min(each[stage] for each in time.stages) for stage in time.stages[0]}
    name = f"{bundle}, {call.device} fp32, {call.size} x {call.size}"
    return checks(name, works, line, least)


def _timed(call: TimeBundle) -> PipelineTime:
    with (
        tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder,
        Terminal().phase(
            f"{call.bundle}: timing", 2 + call.warmup + 2 * call.repetitions
        ) as advance,
    ):
        try:
            return run(call, advance, cache_in(Path(folder)))
        except CallError as error:
            raise click.ClickException(f"the bundle could not be timed: {error}") from error
