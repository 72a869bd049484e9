"""A report as files."""

from pathlib import Path

from ....runtime.files import write_whole
from ..results import Results
from .figure import draw, panels, png, span, svg
from .page import page
from .text import comma_separated, markdown


def write_report(results: Results, out: Path) -> list[Path]:
    """Write table.md, table.csv, results.json, latency.svg, latency.png and report.html.

    The folder is made where there is none; files of these names are replaced. Everything is made
    before the first file is written, and each is there whole or not at all. Raises OSError where
    nothing can be written.
    """
    contents = _contents(results)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(out / name, content)
    return [out / name for name in contents]


def _contents(results: Results) -> dict[str, bytes]:
    shown = panels(results)
    figure = draw(shown, span(shown))
    return {
        "table.md": markdown(results).encode(),
        "table.csv": comma_separated(results).encode(),
        "results.json": results.encode(),
        "latency.svg": svg(figure).encode(),
        "latency.png": png(figure),
        "report.html": page(results).encode(),
    }
