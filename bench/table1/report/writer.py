"""Write a report."""

from pathlib import Path

from ....runtime.files import write_whole
from ...drawing import png, svg
from ...rows.results import Results
from .figure import draw, panels, span
from .page import page
from .text import comma_separated, markdown


def write_report(results: Results, out: Path) -> list[Path]:
    """Write table.md, table.csv, results.json, latency.svg, latency.png and report.html.

    Creates the folder if needed and replaces files of these names. All contents are complete before
    the first file is written, and each file is written completely or not at all. Raises OSError if
    the folder is not writable.
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
