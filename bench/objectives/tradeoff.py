"""The report of ``dossr-bench objectives``: a table, the order of the rows, a picture, images."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ...export.checkpoint.config import RELEASED
from ...runtime.files import write_whole
from ..accuracy.originals import middle
from ..accuracy.report import strip
from ..drawing import INK, OURS, RIVAL, STYLE, png
from ..folders import save_png
from ..metrics import Pixels
from ..tables import markdown_table
from .rows import MEASURE, Row
from .scoring import REFERENCES, Judged, Results

_NEAR = 1.0  # dB; methods farther below the restorer are left out of the second panel
_CROP, _COLUMNS = 176, 6  # pixels of the images side by side, and images in a row
_BETTER = {"psnr_y": 1.0, "ssim": 1.0, "detail": 1.0, "gradients": -1.0, "edges": 1.0}
"""Measures whose order is compared with the paper's; -1 where less is better."""

_NAMES = {
    "psnr_y": "PSNR-Y (dB)",
    "ssim": "SSIM",
    "detail": "detail",
    "gradients": "gradient distance",
    "edges": "edges in place",
}


def table(results: Results, rows: Sequence[Row], images: Sequence[str]) -> str:
    """Return the table as Markdown, and below it how many pairs of rows are in the paper's order."""
    head = ["method", "objective", *_NAMES.values(), f"paper: {MEASURE}"]
    lines = [[name, "-", *_cells(results.mean(name, images)), "-"] for name in REFERENCES]
    scores = {row: results.mean(row.system, images) for row in rows}
    lines += [
        [row.title, row.objective, *_cells(each), f"{row.paper:.4f}"]
        for row, each in scores.items()
    ]
    pairs = len(rows) * (len(rows) - 1) // 2
    orders = [f"{_NAMES[n]} {agreeing(scores, n)}" for n in _BETTER]
    order = f"Pairs of rows in the order of the paper's {MEASURE}, of {pairs}: {', '.join(orders)}."
    return f"{markdown_table(head, lines)}\n\n{order}"


def agreeing(scores: Mapping[Row, Judged], measure: str) -> int:
    """Return how many pairs of rows a measure orders as the paper's MANIQA does."""
    sign = _BETTER[measure]
    return sum(
        sign * (getattr(a, measure) - getattr(b, measure)) * (first.paper - second.paper) > 0
        for (first, a), (second, b) in combinations(scores.items(), 2)
    )


def draw(results: Results, rows: Sequence[Row], images: Sequence[str]) -> Figure:
    """Draw detail over fidelity, a labelled point a method: all of them, and those near the restorer."""
    points = [(name, results.mean(name, images), INK) for name in REFERENCES]
    for row in rows:
        color = OURS if row.objective == RELEASED else RIVAL
        points.append((row.title, results.mean(row.system, images), color))
    least = results.mean("restorer", images).psnr_y - _NEAR
    near = [point for point in points if point[1].psnr_y >= least]
    far = [point for point in points if point[1].psnr_y < least]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        whole, close = figure.subplots(1, 2)
        for axes, shown, named in ((whole, points, far), (close, near, near)):
            for title, scores, color in shown:
                axes.scatter(scores.psnr_y, scores.detail, color=color, s=28, zorder=3)
                if title in (point[0] for point in named):
                    place = scores.psnr_y, scores.detail
                    axes.annotate(title, place, (5, 4), textcoords="offset points", fontsize=8)
            axes.set_xlabel("PSNR-Y (dB), higher is more faithful")
            axes.margins(0.2)
            axes.grid(alpha=0.3)
        whole.set_ylabel("detail, with grain; 1 is the original's")
        whole.set_title("all", fontsize=9)
        close.set_title(f"within {_NEAR:g} dB of the restorer", fontsize=9)
    return figure


def write_report(
    results: Results, rows: Sequence[Row], originals: Mapping[str, Pixels], text: str
) -> None:
    """Write objectives.md, objectives.png and, for each image, all methods side by side."""
    names = list(originals)
    write_whole(results.out / "objectives.md", f"{text}\n".encode())
    write_whole(results.out / "objectives.png", png(draw(results, rows, names)))
    for name, hr in originals.items():
        titles = {n: n for n in REFERENCES} | {row.system: row.title for row in rows}
        shown = {title: _read(results, method, name) for method, title in titles.items()} | {
            "original": hr
        }
        sheet = _sheet({title: middle(pixels, _CROP) for title, pixels in shown.items()})
        save_png(sheet, results.file("sheet", name))


def _sheet(images: Mapping[str, Pixels]) -> Image.Image:
    """Place images of one size in rows, each with its name above."""
    titles = list(images)
    strips = [
        strip({title: images[title] for title in titles[i : i + _COLUMNS]})
        for i in range(0, len(titles), _COLUMNS)
    ]
    sheet = Image.new("RGB", (strips[0].width, sum(row.height for row in strips)), "white")
    for i, row in enumerate(strips):
        sheet.paste(row, (0, i * row.height))
    return sheet


def _read(results: Results, method: str, name: str) -> Pixels:
    with Image.open(results.file(method, name)) as image:
        return np.asarray(image)


def _cells(scores: Judged) -> list[str]:
    return [
        f"{scores.psnr_y:.2f}",
        f"{scores.ssim:.4f}",
        f"{scores.detail:.3f}",
        f"{scores.gradients:.3f}",
        f"{scores.edges:.3f}",
    ]
