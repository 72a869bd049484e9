"""Draw a table as bars: the seconds of each setup by part, and the paper's MANIQA."""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..drawing import INK, OURS, RIVAL, STYLE
from ..rounding import significant
from ..rows.comparison import Comparison, Setup, is_ours
from ..rows.results import Row

MEASURE = "RealSR MANIQA"
"""The column that both tables have."""

_DENOISER = ("control", "unet")
_WIDTH, _BAR, _AROUND = 3.6, 0.42, 1.5  # inches: a panel, a bar, titles and axes


def draw(comparison: Comparison) -> Figure:
    """Draw a panel for each setup, then the paper's; the rows are those of the table."""
    rows = comparison.systems[::-1]
    panels = len(comparison.setups) + 1
    with matplotlib.rc_context(STYLE):
        size = (_WIDTH * panels + 1.0, _BAR * len(rows) + _AROUND)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
        for axes, setup in zip(grid, comparison.setups, strict=False):
            _seconds(axes, comparison, setup, rows)
        _paper(grid[-1], rows)
        grid[0].set_yticks(range(len(rows)), [row.title for row in rows])
    return figure


def _seconds(axes: Axes, comparison: Comparison, setup: Setup, rows: tuple[Row, ...]) -> None:
    """Draw the denoiser's share in colour and the rest in grey; failed rows stay empty."""
    about = "≈ " if setup.is_composed else ""
    for place, system in enumerate(rows):
        row = comparison.row(setup, system.system)
        if row is None or row.latency_s is None:
            continue
        steps = sum(
            stage.calls * stage.seconds
            for stage in row.stages
            if stage.name in _DENOISER and stage.seconds is not None
        )
        axes.barh(place, steps, color=_color(row))
        axes.barh(place, row.latency_s - steps, left=steps, color="#bbbbbb")
        _label(axes, place, row.latency_s, f"{about}{significant(row.latency_s)} s")
    _title(axes, "Here: " + comparison.label(setup).replace(", ", "\n", 1))
    axes.set_xlabel("latency [s]\ncolour: ControlNet and UNet; grey: the rest")
    axes.margins(x=0.25)


def _paper(axes: Axes, rows: tuple[Row, ...]) -> None:
    for place, row in enumerate(rows):
        if MEASURE in row.paper:
            axes.barh(place, row.paper[MEASURE], color=_color(row))
            _label(axes, place, row.paper[MEASURE], f"{row.paper[MEASURE]:.4f}")
    _title(axes, f"Paper: {MEASURE}\ntrained weights")
    axes.set_xlabel("MANIQA\nhigher is better")
    axes.margins(x=0.25)


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=STYLE["font.size"])


def _label(axes: Axes, place: int, value: float, text: str) -> None:
    axes.annotate(text, (value, place), (3, 0), textcoords="offset points", va="center", color=INK)


def _color(row: Row) -> str:
    return OURS if is_ours(row) else RIVAL
