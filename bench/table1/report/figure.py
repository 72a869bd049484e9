"""Plot latency against quality, in the manner of the paper's Figure 1(a)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, NullFormatter
from matplotlib.transforms import BboxBase

from ...drawing import INK, OURS, PAPER, RIVAL, STYLE
from ...rounding import hundredths, significant
from ...rows.comparison import Comparison, Setup, compare, is_ours
from ...rows.results import Results, Row
from .labels import Box, Circle, place

_THOUSAND = 34.0
"""Diameter of 1000 M parameters in points; the area is proportional to the parameters."""

_MARGIN = 4.0
"""Free space beside a label, in points, left and right together; half of it above and below."""

_NEAR = 5.0
"""A label closer to its mark than this, in points, needs no line."""

_WIDTH, _HEIGHT, _PER_LINE = 5.2, 4.4, 3


@dataclass(frozen=True)
class Point:
    """A system in one panel."""

    title: str
    seconds: float
    label: str
    maniqa: float
    parameters: float
    """Millions."""

    ours: bool


@dataclass(frozen=True)
class Panel:
    """One setup; ``missing`` names the systems without a point."""

    title: str
    points: tuple[Point, ...]
    missing: tuple[str, ...]
    loud: bool = False


def panels(results: Results) -> tuple[Panel, ...]:
    """Return the paper's panel, then one per setup, with the systems whose MANIQA the paper prints."""
    found: list[Panel] = []
    for comparison in compare(results):
        rows = [row for row in comparison.systems if row.paper_maniqa is not None]
        if not found:
            found.append(_paper(rows))
        found += (_measured(comparison, setup, rows) for setup in comparison.setups)
    return tuple(found)


def span(shown: Sequence[Panel]) -> float:
    """Return the decades between the fastest and the slowest system of the widest panel."""
    return max((_decades(panel) for panel in shown), default=0.0)


def draw(shown: Sequence[Panel], decades: float) -> Figure:
    """Draw panels side by side with equal scales, so that equal distances are equal ratios."""
    with matplotlib.rc_context(STYLE):
        columns = min(len(shown), _PER_LINE)
        lines = math.ceil(len(shown) / columns)
        figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * lines), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axes, panel in zip(grid, shown, strict=False):
            _scales(axes, panel, decades)
            _marks(axes, panel)
        for axes in grid[len(shown) :]:
            axes.remove()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout must not change after labels are placed
        for axes, panel in zip(figure.axes, shown, strict=True):
            _label(axes, panel)
        return figure


def _paper(rows: Sequence[Row]) -> Panel:
    points = [
        _point(row, row.paper_latency_s, hundredths(row.paper_latency_s), row.paper_parameters)
        for row in rows
    ]
    return _panel("Paper: V100", rows, points)


def _measured(comparison: Comparison, setup: Setup, rows: Sequence[Row]) -> Panel:
    title = f"Here: {comparison.label(setup)}"
    if comparison.reduced:
        title += "\nthese figures are meaningless"
    about = "≈ " if setup.is_composed else ""
    points = []
    for row in rows:
        here = comparison.row(setup, row.system)
        seconds = here.latency_s if here else None
        points.append(_point(row, seconds, about + significant(seconds), row.parameters / 1e6))
    return _panel(title, rows, points, comparison.reduced)


def _point(row: Row, seconds: float | None, words: str, parameters: float | None) -> Point | None:
    if not seconds or row.paper_maniqa is None or parameters is None:
        return None
    label = f"{row.title}\n{words} s"
    return Point(row.title, seconds, label, row.paper_maniqa, parameters, is_ours(row))


def _panel(
    title: str, rows: Sequence[Row], points: Sequence[Point | None], loud: bool = False
) -> Panel:
    missing = (row.title for row, point in zip(rows, points, strict=True) if point is None)
    return Panel(title, tuple(point for point in points if point), tuple(missing), loud)


def _decades(panel: Panel) -> float:
    seconds = [point.seconds for point in panel.points]
    return math.log10(max(seconds) / min(seconds)) if seconds else 0.0


def _scales(axes: Axes, panel: Panel, decades: float) -> None:
    logs = [math.log10(point.seconds) for point in panel.points] or [0.0]
    middle, half = (min(logs) + max(logs)) / 2, decades / 2 + max(0.25, 0.1 * decades)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (middle - half), 10 ** (middle + half))
    steps = (1, 2, 5) if half < 1.2 else (1,)
    powers = range(math.floor(middle - half), math.ceil(middle + half) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency [s], logarithmic")
    axes.set_ylim(0.27, 0.66)
    axes.set_ylabel("MANIQA of the paper, Real200")
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(panel.title, color=OURS if panel.loud else INK, fontsize=10)


def _marks(axes: Axes, panel: Panel) -> None:
    for point in sorted(panel.points, key=lambda point: -point.parameters):
        axes.scatter(
            point.seconds,
            point.maniqa,
            s=_diameter(point) ** 2,
            color=OURS if point.ours else RIVAL,
            alpha=0.75,
            edgecolors=PAPER,
            linewidths=0.8,
        )


def _diameter(point: Point) -> float:
    """Return the diameter of a mark in points."""
    return max(_THOUSAND * math.sqrt(point.parameters / 1000.0), 3.0)


def _legend(axes: Axes, panel: Panel) -> list[Box]:
    """Draw the scale of the marks and the missing systems; return the boxes that they cover."""
    corner: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 7}
    circle = axes.scatter(
        0.09, 0.91, s=_THOUSAND**2, c="none", edgecolors=INK, transform=axes.transAxes
    )
    axes.text(0.09, 0.91, "1000 M", ha="center", va="center", **corner)
    axes.text(0.15, 0.91, "parameters\n(by area)", va="center", **corner)
    boxes = [_box(circle.get_window_extent())]
    if panel.missing:
        text = f"not measured: {', '.join(panel.missing)}"
        missing = axes.text(0.99, 0.01, text, ha="right", va="bottom", **corner)
        boxes.append(_box(missing.get_window_extent()))
    return boxes


def _label(axes: Axes, panel: Panel) -> None:
    """Place labels in free space, with a line to marks that are not adjacent."""
    point_px = axes.figure.dpi / 72.0
    taken = _legend(axes, panel)
    texts = [_text(axes, point) for point in panel.points]
    circles = []
    for point, text in zip(panel.points, texts, strict=True):
        x, y = axes.transData.transform((point.seconds, point.maniqa))
        extent = text.get_window_extent()
        radius = point_px * _diameter(point) / 2.0
        size = extent.width + _MARGIN * point_px, extent.height + _MARGIN * point_px / 2.0
        circles.append(Circle(x, y, radius, *size))
    boxes = place(circles, _box(axes.bbox), taken)
    for point, text, circle, box in zip(panel.points, texts, circles, boxes, strict=True):
        x, y = (box.left + box.right) / 2.0, (box.bottom + box.top) / 2.0
        text.set_position(((x - circle.x) / point_px, (y - circle.y) / point_px))
        across, up = box.nearest(circle.x, circle.y)
        if circle.distance(box) > _NEAR * point_px:
            end = ((across - circle.x) / point_px, (up - circle.y) / point_px)
            _leader(axes, point, end)


def _text(axes: Axes, point: Point) -> Annotation:
    """Add a label in the middle of its mark, to be moved later."""
    return axes.annotate(
        point.label,
        (point.seconds, point.maniqa),
        (0.0, 0.0),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=8,
        fontweight="bold" if point.ours else "normal",
        linespacing=1.05,
    )


def _leader(axes: Axes, point: Point, end: tuple[float, float]) -> None:
    """Draw a thin line from the edge of a mark to ``end``, in points from its centre."""
    axes.annotate(
        "",
        (point.seconds, point.maniqa),
        end,
        textcoords="offset points",
        arrowprops={
            "arrowstyle": "-",
            "color": INK,
            "linewidth": 0.6,
            "shrinkA": 0.0,
            "shrinkB": _diameter(point) / 2.0,
        },
    )


def _box(extent: BboxBase) -> Box:
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)
