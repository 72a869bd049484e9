"""The report as one HTML file without scripts, fonts or network access."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ...drawing import INK, OURS, PAPER, RIVAL, svg
from ...rounding import one_line, percent, significant
from ...rows.comparison import Comparison, Setup, compare, warnings
from ...rows.provenance import provenance
from ...rows.results import Results, Row
from .breakdown import OUTSIDE, Part, parts
from .figure import Panel, draw, panels, span
from .headline import headline
from .notes import NOTES
from .tables import tables

_TITLE = "Table 1 of DoSSR, replayed"
_COLORS = 9  # classes c0 to c8 of page.css: Tol's muted scheme, safe for the colour-blind
_THEME = {INK: "var(--ink)", PAPER: "var(--paper)", OURS: "var(--ours)", RIVAL: "var(--rival)"}
"""The figure's colours as variables of page.css."""


@dataclass(frozen=True)
class _Image:
    """The time of one image, by network."""

    title: str
    total: str
    parts: tuple[Part, ...]
    failed: str


@dataclass(frozen=True)
class _Setup:
    """The images of one setup, and the CSS class of each network."""

    label: str
    classes: dict[str, str]
    images: list[_Image]


def page(results: Results) -> str:
    """Return the whole document; the template escapes every value."""
    compared = compare(results)
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(significant=significant, percent=percent, unbroken=_unbroken)
    return environment.get_template("page.html.j2").render(
        title=_TITLE,
        warnings=[line for each in compared for line in warnings(each)],
        headline=[line for each in compared for line in headline(each)],
        provenance=list(provenance(results)),
        tables=[table for each in compared for table in tables(each)],
        figures=list(_figures(panels(results))),
        setups=[setup for each in compared for setup in _setups(each)],
        notes=NOTES,
    )


def _unbroken(text: str) -> Markup:
    """Escape a text and replace its hyphens by those that do not end a line."""
    return Markup(str(escape(text)).replace("-", "&#8209;"))


def _figures(shown: tuple[Panel, ...]) -> Iterator[tuple[str, str]]:
    """Yield a description and an SVG element for each panel."""
    decades = span(shown)
    for number, panel in enumerate(shown):
        drawing = _inline(svg(draw([panel], decades), text=True), f"panel{number}-")
        yield _description(panel), drawing


def _description(panel: Panel) -> str:
    """Describe a panel for readers who cannot see it."""
    points = (f"{one_line(point.label)}, {point.maniqa}" for point in panel.points)
    return f"{one_line(panel.title)}. Latency, MANIQA: {'; '.join(points)}."


def _inline(document: str, prefix: str) -> str:
    """Turn an SVG document into an element with unique ids and the page's colours."""
    element = document[document.index("<svg") :]
    element = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}", element)
    for color, variable in _THEME.items():
        element = element.replace(color, variable)
    return element.replace("<svg ", '<svg aria-hidden="true" ', 1)


def _setups(comparison: Comparison) -> Iterator[_Setup]:
    names = {s.name: None for row in comparison.rows.values() for s in row.stages}
    classes = {name: f"c{i % _COLORS}" for i, name in enumerate(names)} | {OUTSIDE: "outside"}
    for setup in comparison.setups:
        tried = (comparison.row(setup, system.system) for system in comparison.systems)
        images = [_image(row, setup) for row in tried if row is not None]
        yield _Setup(comparison.label(setup), classes, images)


def _image(row: Row, setup: Setup) -> _Image:
    about = "≈ " if setup.is_composed else ""
    return _Image(row.title, about + significant(row.latency_s), parts(row), one_line(row.failed))
