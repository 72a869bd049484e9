"""``dossr-bench table1``: the systems of the paper's Table 1, counted or timed on this machine."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.engines.device import DEVICES
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..measure.variants import VARIANTS

if TYPE_CHECKING:
    from ..measure.variants import Variant
    from ..systems.system import System
    from .results import Results, Row
    from .rows import Settings

PROTOCOLS = ("count", "compose", "replay")
_ALL_DEVICES = tuple(dict.fromkeys(("cpu", "cuda", *DEVICES)))
_SIDE = 64  # what all systems take a multiple of


@click.command("table1", cls=Command)
@click.option("--systems", multiple=True, metavar="NAME[,NAME...]",
              help="Rows to make; may be repeated.  [default: all]")  # fmt: skip
@click.option("--backend", "backends", type=click.Choice(tuple(VARIANTS)), multiple=True,
              default=("torch",), show_default=True,
              help="What runs the networks; may be repeated. Not for --protocol count.")  # fmt: skip
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="compose", show_default=True,
              help="count: parameters and multiply-accumulates only; compose: each network alone, "
              "times its calls; replay: the whole procedure, every step.")  # fmt: skip
@click.option("--size", type=click.IntRange(_SIDE), default=128, show_default=True,
              help=f"Side of the LR image, a multiple of {_SIDE}.")  # fmt: skip
@click.option("--device", type=click.Choice(_ALL_DEVICES), default="cpu", show_default=True,
              help="Where the networks run.")  # fmt: skip
@click.option("--warmup", type=click.IntRange(0), default=1, show_default=True,
              help="Calls (replay: images) after the first, cold one that are not counted.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True,
              help="Calls (replay: images) whose median is taken.")  # fmt: skip
@click.option("--reduced", is_flag=True, help="Narrow networks, to try the command; the figures mean nothing.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Results, saved after each row; rows that are in it are kept.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Folder for the report, made if need be.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Start FILE anew.")
def table1(
    systems: tuple[str, ...],
    backends: tuple[str, ...],
    protocol: str,
    size: int,
    device: str,
    warmup: int,
    repetitions: int,
    reduced: bool,
    file: Path | None,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Count or time the systems of the paper's Table 1 on this machine.

    Every measurement runs in a fresh process. A row that fails or lacks memory says why, and the
    others go on. With --json, a run that was broken off goes on where it was.

    \b
    Examples:
      dossr-bench table1 --protocol count
      dossr-bench table1 --backend torch --backend onnx --json cpu.json --out report
      dossr-bench table1 --device cuda --protocol replay --backend torch-fp16 --json gpu.json

    Exit code: 0 done, 1 some rows failed (each is named), 2 wrong use.
    """
    if size % _SIDE:
        raise click.UsageError(f"--size must be a multiple of {_SIDE}, got {size}")
    make_folders(file and file.parent, out)

    from .rows import COUNTED, Session, Settings

    settings = Settings(protocol, size, device, warmup, repetitions, reduced)
    chosen = _load(systems, settings)
    results = _open(None if overwrite else file)
    variants = [COUNTED] if protocol == "count" else [VARIANTS[name] for name in backends]
    todo = _unfinished(results, settings, [(s, v) for s in chosen for v in dict.fromkeys(variants)])
    has_failed = False
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as scratch:
        session = Session(settings, Path(scratch), results.provenance["matmul_tmac_s"], Terminal())
        for row in session.rows(todo):
            results = results.with_row(row)
            if file:
                results.save(file)
            click.echo(_line(row))
            has_failed = has_failed or bool(row.failed)
    _report(results, out)
    if has_failed:
        sys.exit(1)


def _load(names: tuple[str, ...], settings: "Settings") -> "list[System]":
    """The chosen systems. Raises UsageError for one that is not known."""
    from ..systems import SYSTEMS, load_system

    wanted = [name for item in names for name in item.split(",")] or SYSTEMS
    try:
        return [load_system(n, settings.size, settings.reduced) for n in dict.fromkeys(wanted)]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _open(file: Path | None) -> "Results":
    """What is in the file, under today's command; nothing where there is none.

    Raises UsageError where it is of another machine or version: its rows are never mixed with ours.
    """
    from ..measure.provenance import difference, provenance
    from .results import Results, load_results

    here = {**provenance(), "matmul_tmac_s": {}}
    if file is None or not file.exists():
        return Results(here)
    try:
        old = load_results(file)
    except ValueError as error:
        raise click.UsageError(f"{error}; name another file or pass --overwrite") from error
    why = difference(old.provenance, here)
    if why:
        raise click.UsageError(
            f"{file} must be of this machine and version: {why}; "
            "name another file or pass --overwrite"
        )
    return Results({**here, "matmul_tmac_s": old.provenance["matmul_tmac_s"]}, old.rows)


def _unfinished(
    results: "Results", settings: "Settings", wanted: "list[tuple[System, Variant]]"
) -> "list[tuple[System, Variant]]":
    """What is not in the results, or failed there."""
    finished = {row.key for row in results.rows if not row.failed}
    todo = [(s, v) for s, v in wanted if settings.key(s.name, v) not in finished]
    if len(todo) < len(wanted):
        click.echo(f"note: {len(wanted) - len(todo)} rows are kept as they were", err=True)
    return todo


def _report(results: "Results", out: Path | None) -> None:
    from .report import terminal_table, write_report

    click.echo()
    click.echo(terminal_table(results))
    for path in write_report(results, out) if out else []:
        click.echo(path)


def _line(row: "Row") -> str:
    """A row as soon as it is there."""
    head = f"{row.system:<12}  {row.protocol:<7}  "
    if row.backend != "-":
        head += f"{row.backend} {row.precision} {row.device}  "
    if row.failed:
        return f"{head}failed: {row.failed}"
    counts = f"{row.parameters / 1e6:.1f} M  {row.gmac:,.0f} GMAC"
    return head + (counts if row.latency_s is None else f"{counts}  {row.latency_s:.3f} s")
