"""The report on Table 5 or 6: one table, a picture, and the results."""

from collections.abc import Iterator
from pathlib import Path

from ...runtime.files import write_whole
from ..drawing import png
from ..rounding import NOTHING, millions, multiple, one_line, significant
from ..rows.comparison import Comparison, Setup, compare, warnings
from ..rows.provenance import provenance
from ..rows.results import Results, Row
from ..rows.table import TABLES, Table
from ..tables import markdown_table, padded_table
from .bars import draw
from .notes import NOTES, QUALITY

Cells = tuple[str, ...]


def terminal_table(results: Results) -> str:
    """Return the table with padded columns, after the warnings."""
    blocks = []
    for comparison in compare(results):
        blocks += [f"*** {line} ***" for line in warnings(comparison)]
        lines = [_title(comparison), padded_table(_head(comparison), _lines(comparison))]
        blocks += ["\n".join([*lines, *_remarks(comparison)])]
    return "\n\n".join(blocks)


def markdown(results: Results) -> str:
    """Return the table in GitHub's Markdown, with notes and provenance."""
    table = TABLES[results.table]
    blocks = [f"# Table {table.number} of the paper, replayed"]
    for comparison in compare(results):
        blocks += [f"> **{line}**" for line in warnings(comparison)]
        blocks += [f"## {_title(comparison)}"]
        blocks += [markdown_table(_head(comparison), _lines(comparison))]
        blocks += ["\n".join(f"- {line}" for line in _remarks(comparison))]
    blocks += ["## Rows", *(f"**{name}.** {text}" for name, text in NOTES[table.name])]
    blocks += ["## Provenance"]
    blocks += ["\n".join(f"- {key}: {value}" for key, value in provenance(results))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def write_report(results: Results, out: Path) -> list[Path]:
    """Write table.md, results.json and table.png, each completely or not at all.

    The picture shows the widest networks at the size nearest to the paper's.

    Creates the folder if needed. Raises OSError if it is not writable.
    """
    contents = {
        "table.md": markdown(results).encode(),
        "results.json": results.encode(),
        "table.png": png(draw(compare(results)[0])),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(out / name, content)
    return [out / name for name in contents]


def _title(comparison: Comparison) -> str:
    side = comparison.size
    words = f"Table {comparison.table.number}, {side} × {side} to {4 * side} × {4 * side}"
    return words + (", REDUCED" if comparison.reduced else "")


def _head(comparison: Comparison) -> Cells:
    columns = ["Row", "network calls", "parameters [M]", "GMAC"]
    reference = _reference(comparison)
    for setup in comparison.setups:
        columns += [f"{comparison.label(setup)} [s]", f"× {reference}"]
    return (*columns, *(f"paper: {column}" for column in _paper_columns(comparison.table)))


def _lines(comparison: Comparison) -> Iterator[Cells]:
    for row in comparison.systems:
        timed = (cell for setup in comparison.setups for cell in _timed(comparison, setup, row))
        printed = (
            f"{row.paper[column]:.{2 if column.endswith('MUSIQ') else 4}f}"
            if column in row.paper
            else NOTHING
            for column in _paper_columns(comparison.table)
        )
        counts = (str(_calls(row)), millions(row.parameters / 1e6), significant(row.gmac, 4))
        yield (row.title, *counts, *timed, *printed)


def _timed(comparison: Comparison, setup: Setup, system: Row) -> Cells:
    """Return seconds and ratio; ≈ marks composed times."""
    row = comparison.row(setup, system.system)
    if row is None or row.failed:
        return "failed" if row else NOTHING, NOTHING
    about = "≈ " if setup.is_composed else ""
    ratio = multiple(comparison.multiple(setup, system.system))
    return about + significant(row.latency_s), ratio


def _remarks(comparison: Comparison) -> Iterator[str]:
    yield QUALITY
    if any(setup.is_composed for setup in comparison.setups):
        yield "compose: ≈ marks the sum of calls times the median of one call, plus the loop; no whole image was run"
    for (setup, _), row in comparison.rows.items():
        if row.failed:
            yield f"{row.title} failed on {setup}: {one_line(row.failed)}"
    for row in comparison.systems:
        if row.note:
            yield f"{row.title}: {one_line(row.note)}"


def _calls(row: Row) -> int:
    """Return the calls of ControlNet and UNet, which are equal."""
    return next(stage.calls for stage in row.stages if stage.name == "unet")


def _reference(comparison: Comparison) -> str:
    """Return the title of the system that ratios refer to, or its name where it was not measured."""
    name = comparison.table.reference
    return next((row.title for row in comparison.systems if row.system == name), name)


def _paper_columns(table: Table) -> Cells:
    return tuple(dict.fromkeys(column for row in table.paper.values() for column in row))
