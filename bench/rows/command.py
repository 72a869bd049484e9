"""What the commands of the paper's tables have in common: their options, and the run."""

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.terminal import Terminal
from ..folders import make_folders
from ..measure.calls import VARIANTS, Variant
from .table import Table

if TYPE_CHECKING:
    from ..systems.system import System
    from .results import Results, Row
    from .session import Settings

PROTOCOLS = ("count", "compose", "replay")
_DEVICES = ("cpu", "cuda")  # of torch; every loop runs in it
_SIDE = 64  # every system accepts multiples of it

Report = Callable[["Results", Path | None], Iterable[str]]
"""Writes a report to a folder, if one is named, and returns what to print: the table, then the files."""


def measuring_options(table: Table) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the options of ``measure_table``."""
    options = (
        click.option("--systems", multiple=True, metavar="NAME[,NAME...]",
                      help=f"Systems to measure; may be repeated: {', '.join(table.systems)}.  [default: all]"),
        click.option("--backend", "backends", type=click.Choice(tuple(VARIANTS)), multiple=True,
                      default=("torch",), show_default=True,
                      help="Backend of the networks; may be repeated. Ignored by --protocol count. onnx-fp16 runs "
                      "on a GPU only: on a CPU its graphs compute in float32. openvino runs on a CPU only."),
        click.option("--protocol", type=click.Choice(PROTOCOLS), default="compose", show_default=True,
                      help="count: parameters and multiply-accumulates only; compose: each network alone, "
                      "multiplied by its calls; replay: the whole procedure, every step."),
        click.option("--size", type=click.IntRange(_SIDE), default=128, show_default=True,
                      help=f"Side of the LR image, a multiple of {_SIDE}."),
        click.option("--device", type=click.Choice(_DEVICES), default="cpu", show_default=True,
                      help="Device of the networks."),
        click.option("--warmup", type=click.IntRange(0), default=1, show_default=True,
                      help="Untimed calls (replay: images) after the first, cold one."),
        click.option("--repetitions", type=click.IntRange(1), default=5, show_default=True,
                      help="Timed calls (replay: images); the median is reported."),
        click.option("--reduced", is_flag=True,
                      help="Use narrow networks to try the command; the figures are meaningless."),
        click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                      help="Results file, saved after each row; rows already in it are kept."),
        click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
                      help="Folder for the report; created if missing."),
        click.option("--overwrite", is_flag=True, help="Ignore the rows in FILE and replace it."),
    )  # fmt: skip

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def measure_table(
    table: Table,
    report: Report,
    *,
    systems: tuple[str, ...],
    backends: tuple[str, ...],
    file: Path | None,
    out: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Measure the chosen rows and report them. Exits with 1 if one failed."""
    if settings["size"] % _SIDE:
        raise click.UsageError(f"--size must be a multiple of {_SIDE}, got {settings['size']}")
    make_folders(file and file.parent, out)

    from .session import COUNTED, Settings

    chosen = Settings(table=table.name, **settings)
    loaded = _load(table, systems, chosen)
    before = _open(table, None if overwrite else file)
    variants = [VARIANTS[name] for name in backends] if chosen.protocol != "count" else [COUNTED]
    wanted = [(system, variant) for system in loaded for variant in dict.fromkeys(variants)]
    results, has_failed = _measure(before, chosen, _unfinished(before, chosen, wanted), file)
    click.echo()
    for block in report(results, out):
        click.echo(block)
    if has_failed:
        sys.exit(1)


def _measure(
    results: "Results",
    settings: "Settings",
    todo: "list[tuple[System, Variant]]",
    file: Path | None,
) -> "tuple[Results, bool]":
    """Add a row for each of ``todo``, and return whether one failed. Saves and prints each row."""
    from .run import measure_machine, measure_rows
    from .session import Session

    has_failed = False
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as scratch:
        session = Session(settings, Path(scratch), Terminal())
        machine = measure_machine(session, todo, results.provenance["matmul_tmac_s"])
        results = results.with_provenance(matmul_tmac_s=dict(machine.tmac_s))
        for row in measure_rows(session, todo, machine):
            results = results.with_row(row)
            if file:
                results.save(file)
            click.echo(_line(row))
            has_failed = has_failed or bool(row.failed)
    return results, has_failed


def _load(table: Table, names: tuple[str, ...], settings: "Settings") -> "list[System]":
    """Load the chosen systems. Raises UsageError for a name that is not in the table."""
    from ..systems import load_system

    wanted = dict.fromkeys([n for item in names for n in item.split(",")] or table.systems)
    for name in wanted:
        if name not in table.systems:
            raise click.UsageError(
                f"system must be one of {', '.join(table.systems)}, got '{name}'"
            )
    return [load_system(name, settings.size, settings.reduced) for name in wanted]


def _open(table: Table, file: Path | None) -> "Results":
    """Read the rows of the file; there are none without a file.

    Raises UsageError where the file is of another table, machine or version: their rows are never mixed.
    """
    from ..measure.provenance import difference, provenance
    from .results import Results, load_results

    here = provenance()
    if file is None or not file.exists():
        return Results({**here, "matmul_tmac_s": {}}, table=table.name)
    try:
        old = load_results(file)
    except ValueError as error:
        raise click.UsageError(f"{error}; name another file or pass --overwrite") from error
    if old.table != table.name:
        raise click.UsageError(
            f"{file} must be of dossr-bench {table.name}, got one of dossr-bench {old.table}; "
            "name another file or pass --overwrite"
        )
    why = difference(old.provenance, here)
    if why:
        raise click.UsageError(
            f"{file} must be of this machine and version: {why}; "
            "name another file or pass --overwrite"
        )
    return old.with_provenance(**here, matmul_tmac_s=old.provenance["matmul_tmac_s"])


def _unfinished(
    results: "Results", settings: "Settings", wanted: "list[tuple[System, Variant]]"
) -> "list[tuple[System, Variant]]":
    """Return the rows that are not in the results, or failed there."""
    finished = {row.key for row in results.rows if not row.failed}
    todo = [(s, v) for s, v in wanted if settings.key(s.name, v) not in finished]
    if len(todo) < len(wanted):
        click.echo(f"note: {len(wanted) - len(todo)} rows are already measured and kept", err=True)
    return todo


def _line(row: "Row") -> str:
    """Return a row as one line."""
    head = f"{row.system:<12}  {row.protocol:<7}  "
    if row.backend != "-":
        head += f"{row.backend} {row.precision} {row.device}  "
    if row.failed:
        return f"{head}failed: {row.failed}"
    counts = f"{row.parameters / 1e6:.1f} M  {row.gmac:,.0f} GMAC"
    return head + (counts if row.latency_s is None else f"{counts}  {row.latency_s:.3f} s")
