"""A report as one HTML file that needs nothing else: no script, no font, no network."""

import re
from collections.abc import Iterable, Iterator
from html import escape

from ...rounding import one_line, percent, significant
from ..results import Results, Row
from .breakdown import OUTSIDE, Part, parts
from .comparison import Comparison, Setup, compare, headline, warnings
from .figure import Panel, draw, panels, span, svg
from .notes import NOTES
from .provenance import provenance
from .style import COLORS, CSS, THEME
from .tables import Table, tables

_TITLE = "Table 1 of DoSSR, replayed"
_NO_BREAK = "&#8209;"  # a hyphen at which no line ends


def page(results: Results) -> str:
    """The whole document; every value is escaped."""
    compared = compare(results)
    body = [
        f"<h1>{_TITLE}</h1>",
        *(f'<p class="warning">{escape(w)}</p>' for c in compared for w in warnings(c)),
        _list("headline", (line for c in compared for line in headline(c))),
        "<h2>Provenance</h2>",
        *_provenance(results),
        *(_table(table) for c in compared for table in tables(c)),
        "<h2>Latency, quality and size</h2>",
        *_figures(panels(results)),
        *(line for c in compared for line in _stages(c)),
        "<h2>Notes</h2>",
        *(f"<h3>{escape(name)}</h3>\n<p>{escape(text)}</p>" for name, text in NOTES),
    ]
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_TITLE}</title>",
            f"<style>{CSS}</style></head>",
            "<body><main>",
            *body,
            "</main></body></html>\n",
        )
    )


def _list(name: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="{name}">{items}</ul>' if items else ""


def _provenance(results: Results) -> Iterator[str]:
    yield "<dl>"
    for name, value in provenance(results):
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"


def _table(table: Table) -> str:
    whole = (escape(name).replace("-", _NO_BREAK) for name in table.head)
    head = "".join(f'<th scope="col">{name}</th>' for name in whole)
    lines = []
    for system, *numbers in table.lines:
        cells = "".join(f"<td>{escape(number)}</td>" for number in numbers)
        mark = ' class="ours"' if system in table.ours else ""
        lines.append(f'<tr{mark}><th scope="row">{escape(system)}</th>{cells}</tr>')
    rows = "\n".join(lines)
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n{_list('remarks', table.remarks)}"
    )


def _figures(shown: tuple[Panel, ...]) -> Iterator[str]:
    """A figure per panel, which a phone puts one below the other."""
    yield '<div class="figures">'
    decades = span(shown)
    for number, panel in enumerate(shown):
        drawing = _inline(svg(draw([panel], decades), text=True), f"panel{number}-")
        yield f'<figure role="img" aria-label="{escape(_words(panel))}">{drawing}</figure>'
    yield "</div>"


def _words(panel: Panel) -> str:
    """The figure for those who cannot see it."""
    points = (f"{one_line(point.label)}, {point.maniqa}" for point in panel.points)
    return f"{one_line(panel.title)}. Latency, MANIQA: {'; '.join(points)}."


def _inline(document: str, prefix: str) -> str:
    """An SVG document as an element: ids of its own, the page's colours."""
    element = document[document.index("<svg") :]
    element = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}", element)
    for color, variable in THEME.items():
        element = element.replace(color, variable)
    return element.replace("<svg ", '<svg aria-hidden="true" ', 1)


def _stages(comparison: Comparison) -> Iterator[str]:
    names = {s.name: None for row in comparison.rows.values() for s in row.stages}
    classes = {name: f"c{i % COLORS}" for i, name in enumerate(names)} | {OUTSIDE: "outside"}
    for setup in comparison.setups:
        yield f"<h2>Where the time goes: {escape(comparison.label(setup))}</h2>"
        yield '<p class="remarks">Each bar is one image: shares of its time, not seconds.</p>'
        for system in comparison.systems:
            row = comparison.row(setup, system.system)
            if row is not None:
                yield _bar(row, setup, classes)


def _bar(row: Row, setup: Setup, classes: dict[str, str]) -> str:
    if row.failed:
        why = escape(one_line(row.failed))
        return f'<h4>{escape(row.title)}</h4>\n<p class="failed">failed: {why}</p>'
    found = parts(row)
    about = "≈ " if setup.is_composed else ""
    bars = "".join(
        f'<span class="{classes[p.name]}" style="flex:{p.share:.6f} 0 0"></span>' for p in found
    )
    items = "".join(f'<li><i class="{classes[p.name]}"></i>{escape(_part(p))}</li>' for p in found)
    total = f"{about}{significant(row.latency_s)} s"
    return (
        f"<h4>{escape(row.title)}: {total}</h4>\n"
        f'<div class="bar" aria-hidden="true">{bars}</div>\n<ul class="parts">{items}</ul>'
    )


def _part(part: Part) -> str:
    calls = f"{part.calls} × {significant(part.seconds / part.calls)} s = " if part.calls else ""
    return f"{part.name}: {calls}{significant(part.seconds)} s, {percent(part.share)} %"
