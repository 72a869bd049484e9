"""Arrange results as a comparison: one line per system, one column per setup."""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from ..rounding import one_line
from .results import Results, Row
from .table import TABLES, Table

PAPER_SIZE = 128
"""Side of the LR image in the paper's tables."""


@dataclass(frozen=True)
class Setup:
    """A way of measuring; only rows of one setup are comparable."""

    backend: str
    device: str
    precision: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} on {self.device}, {self.protocol}"

    @property
    def is_composed(self) -> bool:
        """Whether seconds are calls times medians, not a run."""
        return self.protocol == "compose"


@dataclass(frozen=True)
class Comparison:
    """All rows with one image size and one width of the networks."""

    table: Table
    size: int
    """Side of the LR image."""

    reduced: bool
    systems: tuple[Row, ...]
    """One row of each system, for the fields that do not depend on the setup."""

    setups: tuple[Setup, ...]
    """Setups with timed or failed rows; without ``count``."""

    rows: Mapping[tuple[Setup, str], Row]
    """Rows by setup and name of the system."""

    def label(self, setup: Setup) -> str:
        """Return the setup, and how this comparison differs from the paper's."""
        size = f", {self.size} px" if self.size != PAPER_SIZE else ""
        return f"{setup}{size}{', REDUCED' if self.reduced else ''}"

    def row(self, setup: Setup, system: str) -> Row | None:
        """Return the row of a system under a setup, if it was tried."""
        return self.rows.get((setup, system))

    def multiple(self, setup: Setup, system: str) -> float | None:
        """Return the latency divided by that of the reference in the same setup."""
        return _ratio(self._latency(setup, system), self._latency(setup, self.table.reference))

    def paper_multiple(self, system: str) -> float | None:
        """Return the paper's latency divided by that of the reference."""
        paper = {row.system: row.paper_latency_s for row in self.systems}
        return _ratio(paper.get(system), paper.get(self.table.reference))

    def _latency(self, setup: Setup, system: str) -> float | None:
        row = self.row(setup, system)
        return row.latency_s if row else None


def setup_of(row: Row) -> Setup:
    """Return the setup of a row."""
    return Setup(row.backend, row.device, row.precision, row.protocol)


def is_ours(row: Row) -> bool:
    """Return whether a row is DoSSR with any number of steps and of any order."""
    return row.system.startswith(("dossr", "dos-sde"))


def compare(results: Results) -> tuple[Comparison, ...]:
    """Group rows: full width first, the paper's size first. Raises ValueError without rows."""
    if not results.rows:
        raise ValueError("a report needs at least one row")
    groups: dict[tuple[bool, bool, int], list[Row]] = {}
    for row in results.rows:
        row = replace(row, title=one_line(row.title))
        groups.setdefault((row.reduced, row.size != PAPER_SIZE, row.size), []).append(row)
    table = TABLES[results.table]
    return tuple(_comparison(table, groups[key]) for key in sorted(groups))


def warnings(comparison: Comparison) -> tuple[str, ...]:
    """Return what a reader must know before the figures."""
    found = []
    if comparison.reduced:
        found.append(
            "REDUCED NETWORKS: these figures are meaningless; they show only that the procedures run"
        )
    if comparison.size != PAPER_SIZE:
        side = comparison.size
        found.append(
            f"LR images of {side} × {side}: the paper's seconds and the official GMAC "
            f"are for {PAPER_SIZE} × {PAPER_SIZE}"
        )
    return tuple(found)


def _comparison(table: Table, rows: list[Row]) -> Comparison:
    places = {name: place for place, name in enumerate(table.systems)}
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.system, row)
    systems = sorted(first.values(), key=lambda row: places.get(row.system, len(places)))
    timed = [row for row in rows if row.protocol != "count"]
    return Comparison(
        table=table,
        size=rows[0].size,
        reduced=rows[0].reduced,
        systems=tuple(systems),
        setups=tuple(dict.fromkeys(setup_of(row) for row in timed)),
        rows={(setup_of(row), row.system): row for row in timed},
    )


def _ratio(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None
