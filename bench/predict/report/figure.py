"""Draw predicted latency on a logarithmic scale: one line of points per device."""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..predictions import Predictions

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1a1a1a")
_MARKS = ("o", "s", "^", "D", "v", "P")
"""Okabe and Ito's colours with marks, so that a print in grey can be read."""

_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.right": False, "axes.spines.top": False}


def draw(found: Predictions) -> Figure:
    """Draw the least latency of every subject on every device that has one, fastest device first."""
    devices = [device for device in found.devices if not found.of(device)[0].missing]
    devices.sort(key=lambda device: sum(row.seconds or 0.0 for row in found.of(device)))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 1.6 + 0.26 * len(devices)), layout="constrained")
        axes = figure.subplots()
        for place, subject in enumerate(found.subjects):
            seconds = [row.seconds for row in found.rows if row.subject == subject.name]
            by_name = dict(zip((d.name for d in found.devices), seconds, strict=True))
            axes.plot(
                [by_name[device.name] or 0.0 for device in devices],
                range(len(devices)),
                linestyle="",
                marker=_MARKS[place // len(_COLOURS) % len(_MARKS)],
                color=_COLOURS[place % len(_COLOURS)],
                label=subject.title,
            )
        axes.set_xscale("log")
        axes.set_yticks(range(len(devices)), [device.title for device in devices])
        axes.invert_yaxis()
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("predicted latency of an image, at least [s]")
        axes.set_title(
            f"Predicted, not measured: {found.precision}, {found.size} x {found.size} pixels",
            loc="left",
        )
        figure.legend(loc="outside right upper", frameon=False)
        return figure


def png(figure: Figure) -> bytes:
    """Render a PNG file."""
    stream = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    return stream.getvalue()
