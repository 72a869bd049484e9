"""Draw predicted latency on a logarithmic scale: one line of points per device."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..devices import Device
from ..predictions import Predictions

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1a1a1a")
_MARKS = ("o", "s", "^", "D", "v", "P")
"""Okabe and Ito's colours with marks, so that a print in grey can be read."""

_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.right": False, "axes.spines.top": False}


def draw(found: Predictions) -> Figure:
    """Draw the least latency of every subject on every device that has one, fastest device first.

    Subjects with equal latencies, which run the same network, share their points.
    """
    devices = [device for device in found.devices if not found.of(device)[0].missing]
    devices.sort(key=lambda device: sum(row.seconds or 0.0 for row in found.of(device)))
    series = _series(found, devices)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.6, 1.6 + 0.3 * len(devices)), layout="constrained")
        axes = figure.subplots()
        for place, (seconds, titles) in enumerate(series.items()):
            shift = 0.6 * ((place + 0.5) / len(series) - 0.5)  # so that no point hides another
            axes.plot(
                seconds,
                [row + shift for row in range(len(devices))],
                linestyle="",
                marker=_MARKS[place // len(_COLOURS) % len(_MARKS)],
                markersize=4.5,
                color=_COLOURS[place % len(_COLOURS)],
                label=", ".join(titles),
            )
        axes.set_xscale("log")
        axes.set_yticks(range(len(devices)), [device.title for device in devices])
        axes.invert_yaxis()
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("predicted latency of an image, at least [s]")
        axes.set_title(
            f"Predicted, not measured: {found.precision}, {found.size} x {found.size} pixels",
            loc="left",
        )
        figure.legend(loc="outside right upper", frameon=False)
        return figure


def _series(found: Predictions, devices: Sequence[Device]) -> dict[tuple[float, ...], list[str]]:
    """Return latencies by device, each with the titles of the subjects that have them."""
    series: dict[tuple[float, ...], list[str]] = {}
    for subject in found.subjects:
        by_device = {row.device: row.seconds for row in found.rows if row.subject == subject.name}
        seconds = tuple(by_device[device.name] or 0.0 for device in devices)
        series.setdefault(seconds, []).append(subject.title)
    return series


def png(figure: Figure) -> bytes:
    """Render a PNG file."""
    stream = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    return stream.getvalue()
