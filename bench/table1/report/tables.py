"""Build the tables of a report: an overview of the systems, and one table for each setup."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ...rounding import (
    NOTHING,
    gibibytes,
    hundredths,
    millions,
    multiple,
    one_line,
    percent,
    significant,
)
from ...rows.comparison import Comparison, Setup, is_ours
from ...rows.results import Row


@dataclass(frozen=True)
class Table:
    """Cells by line. The first column is the system, the others are numbers."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]
    """Remarks below the table, such as why a row failed."""

    ours: frozenset[str]
    """Systems to highlight."""


Cell = Callable[[Comparison, Row], str]

_SYSTEM: tuple[tuple[str, Cell], ...] = (
    ("System", lambda c, row: row.title),
    ("Parameters [M]", lambda c, row: millions(row.parameters / 1e6)),
    ("official [M]", lambda c, row: millions(row.official_parameters)),
    ("paper [M]", lambda c, row: millions(row.paper_parameters)),
    ("GMAC", lambda c, row: significant(row.gmac, 4)),
    ("official GMAC", lambda c, row: significant(row.official_gmac, 4)),
    ("paper V100 [s]", lambda c, row: hundredths(row.paper_latency_s)),
    ("× DoSSR-5", lambda c, row: multiple(c.paper_multiple(row.system))),
)

_MEASURED: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("p90 [s]", lambda row: significant(row.p90_s)),
    ("cold [s]", lambda row: significant(row.cold_s)),
    ("loop [s]", lambda row: significant(row.loop_s)),
    ("file I/O [s]", lambda row: significant(row.io_s)),
    ("peak memory [GiB]", lambda row: gibibytes(row.peak_bytes)),
    ("TMAC/s", lambda row: significant(row.tmac_s)),
    ("utilization [%]", lambda row: percent(row.utilization)),
)


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the overview of all systems, then one table for each setup."""
    details = (_detail(comparison, setup) for setup in comparison.setups)
    return (_overview(comparison), *details)


def _overview(comparison: Comparison) -> Table:
    head = [name for name, _ in _SYSTEM]
    for setup in comparison.setups:
        head += [f"{comparison.label(setup)} [s]", "× DoSSR-5"]
    lines = []
    for row in comparison.systems:
        cells = [cell(comparison, row) for _, cell in _SYSTEM]
        for setup in comparison.setups:
            cells += _timed(comparison, setup, row.system)
        lines.append(tuple(cells))
    side = comparison.size
    title = f"Systems, {side} × {side} to {4 * side} × {4 * side}"
    title += ", REDUCED" if comparison.reduced else ""
    remarks = () if comparison.setups else tuple(_notes(comparison.systems))
    return Table(title, tuple(head), tuple(lines), remarks, _ours(comparison))


def _detail(comparison: Comparison, setup: Setup) -> Table:
    head = (
        "System",
        "p50 [s]",
        "× DoSSR-5",
        "paper × DoSSR-5",
        *(name for name, _ in _MEASURED),
        "runs",
    )
    tried = (comparison.row(setup, row.system) for row in comparison.systems)
    rows = [row for row in tried if row is not None]
    lines = []
    for row in rows:
        timed = _timed(comparison, setup, row.system)
        paper = multiple(comparison.paper_multiple(row.system))
        cells = (cell(row) for _, cell in _MEASURED)
        lines.append((row.title, *timed, paper, *cells, _runs(row)))
    remarks = (*_gaps(comparison, setup), *_notes(rows))
    return Table(comparison.label(setup), head, tuple(lines), remarks, _ours(comparison))


def _timed(comparison: Comparison, setup: Setup, system: str) -> tuple[str, str]:
    """Return seconds and ratio; ≈ marks composed times."""
    row = comparison.row(setup, system)
    if row is None:
        return NOTHING, NOTHING
    if row.failed:
        return "failed", NOTHING
    cells = significant(row.latency_s), multiple(comparison.multiple(setup, system))
    about = "≈ " if setup.is_composed else ""
    seconds, times = (cell if cell == NOTHING else about + cell for cell in cells)
    return seconds, times


def _ours(comparison: Comparison) -> frozenset[str]:
    return frozenset(row.title for row in comparison.systems if is_ours(row))


def _runs(row: Row) -> str:
    return NOTHING if row.failed else f"{row.warmup} + {row.repetitions}"


def _notes(rows: Iterable[Row]) -> Iterator[str]:
    titles: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            titles.setdefault(one_line(row.note), []).append(row.title)
    for note, named in titles.items():
        yield f"{', '.join(named)}: {note}"


def _gaps(comparison: Comparison, setup: Setup) -> Iterator[str]:
    if setup.is_composed:
        yield "compose: ≈ marks the sum of calls times the median of one call, plus the loop; no whole image was run"
    missing = []
    for system in comparison.systems:
        row = comparison.row(setup, system.system)
        if row is None:
            missing.append(system.title)
        elif row.failed:
            yield f"{row.title} failed: {one_line(row.failed)}"
    if missing:
        yield f"not measured: {', '.join(missing)}"
