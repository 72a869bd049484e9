"""A report as text: terminal, Markdown, CSV."""

import csv
import io

from ...rows.comparison import compare, setup_of, warnings
from ...rows.provenance import provenance
from ...rows.results import Results, Row
from ...tables import markdown_table, padded_table
from .headline import headline
from .notes import NOTES
from .tables import Table, tables

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#~$"})
_COLUMNS = tuple(name for name in Row.__struct_fields__ if name not in ("stages", "paper"))


def terminal_table(results: Results) -> str:
    """Return the tables with padded columns, after the warnings."""
    blocks = []
    for comparison in compare(results):
        blocks += [f"*** {line} ***" for line in warnings(comparison)]
        blocks += [_padded(table) for table in tables(comparison)]
        blocks += ["\n".join(headline(comparison))]
    return "\n\n".join(block for block in blocks if block)


def markdown(results: Results) -> str:
    """Return the tables in GitHub's Markdown, with provenance and notes."""
    blocks = ["# Table 1, replayed"]
    for comparison in compare(results):
        blocks += [f"> **{_escape(line)}**" for line in warnings(comparison)]
        blocks += ["\n".join(f"- {_escape(line)}" for line in headline(comparison))]
        for table in tables(comparison):
            blocks += [
                f"## {_escape(table.title)}",
                markdown_table(table.head, table.lines, _escape),
            ]
            blocks += ["\n".join(f"- {_escape(line)}" for line in table.remarks)]
    blocks += ["## Provenance"]
    blocks += ["\n".join(f"- {_escape(f'{k}: {v}')}" for k, v in provenance(results))]
    blocks += ["## Notes", *(f"**{name}.** {_escape(text)}" for name, text in NOTES)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def comma_separated(results: Results) -> str:
    """Return one line per row with all digits; a cell is empty where nothing was measured."""
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


def _padded(table: Table) -> str:
    return "\n".join([table.title, padded_table(table.head, table.lines), *table.remarks])


def _escape(text: str) -> str:
    return text.translate(_SPECIAL)
