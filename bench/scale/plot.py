"""Plot a sweep: images per second over the number of GPUs, and efficiency over failures."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .cluster import Cluster, Job, limits
from .sweep import Point

_STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.right": False, "axes.spines.top": False}
_LIMITS = {"GPUs": ("#1a1a1a", "-"), "storage": ("#d55e00", "--"), "scheduler": ("#009e73", ":")}
_DOTS = "#0072b2"


def draw(by_gpus: Sequence[Point], by_mtbf: Sequence[Point], job: Job) -> Figure:
    """Draw both panels."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(10.0, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _throughput(left, by_gpus, job)
        _failures(right, by_mtbf, job)
        return figure


def png(figure: Figure) -> bytes:
    """Render a PNG file."""
    stream = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(stream, format="png", dpi=140, metadata={"Software": None})
    return stream.getvalue()


def _throughput(axes: Axes, points: Sequence[Point], job: Job) -> None:
    gpus = [point.cluster.gpus for point in points]
    for name, (colour, dashes) in _LIMITS.items():
        rates = [limits(point.cluster, job)[name] for point in points]
        if all(map(math.isfinite, rates)):
            axes.plot(gpus, rates, color=colour, linestyle=dashes, label=f"limit: {name}")
    rates = [point.outcome.rate for point in points]
    axes.plot(gpus, rates, "o", color=_DOTS, label="simulated")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("GPUs")
    axes.set_ylabel("simulated images per second")
    axes.set_title(f"Simulated: {job.images:,} images", loc="left")
    axes.legend(frameon=False)


def _failures(axes: Axes, points: Sequence[Point], job: Job) -> None:
    hours = [point.cluster.node_mtbf_s / 3600.0 for point in points]
    axes.plot(hours, [100.0 * efficiency(point, job) for point in points], "o-", color=_DOTS)
    axes.set_xscale("log")
    axes.set_ylim(0.0, 100.0)
    axes.set_xlabel("hours between failures of a node")
    axes.set_ylabel("simulated rate, % of all GPUs computing")
    axes.set_title(f"Simulated: failures, {points[0].cluster.gpus:,} GPUs", loc="left")


def efficiency(point: Point, job: Job) -> float:
    """Return the simulated rate as a share of the rate at which every GPU always computes."""
    cluster: Cluster = point.cluster
    return point.outcome.rate / limits(cluster, job)["GPUs"]
