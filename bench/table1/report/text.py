"""A report as text: terminal, Markdown, CSV."""

import csv
import io
from collections.abc import Iterator
from dataclasses import fields

from ..results import Results, Row
from .comparison import compare, headline, setup_of, warnings
from .notes import NOTES
from .provenance import provenance
from .tables import Table, tables

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#~$"})
_COLUMNS = tuple(field.name for field in fields(Row) if field.name != "stages")


def terminal_table(results: Results) -> str:
    """The tables with padded columns; what must be read before the figures comes first."""
    blocks = []
    for comparison in compare(results):
        blocks += [f"*** {line} ***" for line in warnings(comparison)]
        blocks += ["\n".join(_padded(table)) for table in tables(comparison)]
        blocks += ["\n".join(headline(comparison))]
    return "\n\n".join(block for block in blocks if block)


def markdown(results: Results) -> str:
    """The tables in GitHub's Markdown, with provenance."""
    blocks = ["# Table 1, replayed"]
    for comparison in compare(results):
        blocks += [f"> **{_escape(line)}**" for line in warnings(comparison)]
        blocks += ["\n".join(f"- {_escape(line)}" for line in headline(comparison))]
        for table in tables(comparison):
            blocks += [f"## {_escape(table.title)}", "\n".join(_piped(table))]
            blocks += ["\n".join(f"- {_escape(line)}" for line in table.remarks)]
    blocks += ["## Provenance"]
    blocks += ["\n".join(f"- {_escape(f'{k}: {v}')}" for k, v in provenance(results))]
    blocks += ["## Notes", *(f"**{name}.** {_escape(text)}" for name, text in NOTES)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def comma_separated(results: Results) -> str:
    """One line per row of the results, every digit kept; empty is what was not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, "paper_multiple", "multiple"])
    for comparison in compare(results):
        inside = (
            row
            for row in results.rows
            if (row.size, row.reduced) == (comparison.size, comparison.reduced)
        )
        for row in inside:
            values = [getattr(row, name) for name in _COLUMNS]
            paper = comparison.paper_multiple(row.system)
            writer.writerow([*values, paper, comparison.multiple(setup_of(row), row.system)])
    return text.getvalue()


def _padded(table: Table) -> Iterator[str]:
    heads = _stacked(table.head)
    widths = [max(map(len, column)) for column in zip(*heads, *table.lines, strict=True)]

    def aligned(line: tuple[str, ...]) -> str:
        system, *numbers = zip(line, widths, strict=True)
        cells = [system[0].ljust(system[1]), *(cell.rjust(width) for cell, width in numbers)]
        return "  ".join(cells).rstrip()

    yield table.title
    yield from map(aligned, heads)
    yield "  ".join("-" * width for width in widths)
    yield from map(aligned, table.lines)
    yield from table.remarks


def _stacked(head: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Heads broken into words, the last word at the bottom: columns as narrow as their numbers."""
    words = [name.split(" ") for name in head]
    depth = max(map(len, words))
    return list(zip(*([""] * (depth - len(w)) + w for w in words), strict=True))


def _piped(table: Table) -> Iterator[str]:
    for line in (table.head, *table.lines):
        yield f"| {' | '.join(map(_escape, line))} |"
        if line is table.head:
            yield f"| :-- |{' --: |' * (len(line) - 1)}"


def _escape(text: str) -> str:
    return text.translate(_SPECIAL)
