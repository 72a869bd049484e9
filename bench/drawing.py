"""Colours and style of the figures, and their files."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

INK, PAPER, OURS, RIVAL = "#1a1a1a", "#ffffff", "#d55e00", "#0072b2"
"""OURS and RIVAL are Okabe and Ito's vermilion and blue, which differ in lightness too."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "figure.facecolor": PAPER,
    "font.size": 9,
    "svg.hashsalt": "dossr",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def svg(figure: Figure, text: bool = False) -> str:
    """Render an SVG document; letters are paths, or text in the browser's font."""
    style = {**STYLE, "svg.fonttype": "none" if text else "path"}
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    return _rendered(figure, style, format="svg", metadata=nothing).decode()


def png(figure: Figure) -> bytes:
    """Render a PNG file."""
    return _rendered(figure, STYLE, format="png", dpi=160, metadata={"Software": None})


def _rendered(figure: Figure, style: dict[Any, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    with matplotlib.rc_context(style):
        figure.savefig(stream, **options)
    return stream.getvalue()
