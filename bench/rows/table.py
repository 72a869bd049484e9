"""The tables of the paper that this machine can measure: their rows, and the figures printed there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..systems import FORMULATIONS, SAMPLERS, SYSTEMS


@dataclass(frozen=True)
class Table:
    """A table of the paper; ``dossr-bench <name>`` measures it."""

    name: str
    number: int
    """In the paper."""

    systems: tuple[str, ...]
    """Names of the rows, in the paper's order."""

    reference: str
    """The system that latency ratios refer to."""

    paper: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The paper's figures by system and column, where they are not those of ``System.published``."""


def _figures(columns: tuple[str, ...], rows: str) -> dict[str, dict[str, float]]:
    """Read one line a system: its name, then a figure for each column."""
    lines = [line.split() for line in rows.strip().splitlines()]
    return {name: dict(zip(columns, map(float, values), strict=True)) for name, *values in lines}


TABLE1 = Table("table1", 1, SYSTEMS, "dossr-5")

TABLE5 = Table(
    "formulations",
    5,
    FORMULATIONS,
    "dossr-5",
    _figures(
        ("RealSRSet MUSIQ", "RealSRSet MANIQA", "RealSR MUSIQ", "RealSR MANIQA"),
        """
        colddiff-5  58.19 0.3194 47.42 0.2783
        resshift-5  63.90 0.4505 56.01 0.4001
        dossr-5     73.35 0.6169 69.42 0.5781
        flowie-1    60.48 0.3644 50.82 0.3228
        dossr-1     69.42 0.5554 62.69 0.5115
        """,
    ),
)

TABLE6 = Table(
    "samplers",
    6,
    SAMPLERS,
    "dos-sde-3",
    _figures(
        (
            "RealSR CLIPIQA", "RealSR MUSIQ", "RealSR MANIQA", "RealSR TOPIQ",
            "DRealSR CLIPIQA", "DRealSR MUSIQ", "DRealSR MANIQA", "DRealSR TOPIQ",
        ),
        """
        ddim          0.5176 57.95 0.4293 0.5286 0.4732 48.22 0.3518 0.4316
        edm           0.5351 62.08 0.4445 0.5789 0.5341 53.13 0.3917 0.5082
        dpm-solver-3  0.5323 62.67 0.4384 0.5807 0.5379 54.09 0.3932 0.5180
        dos-sde-1     0.6874 66.55 0.5574 0.6588 0.5907 59.12 0.4686 0.5907
        dos-sde-2     0.7025 69.27 0.5794 0.6966 0.6749 64.09 0.5196 0.6571
        dos-sde-3     0.7025 69.42 0.5781 0.6985 0.6776 64.40 0.5214 0.6618
        """,
    ),
)  # fmt: skip

TABLES = {table.name: table for table in (TABLE1, TABLE5, TABLE6)}
"""By name."""
