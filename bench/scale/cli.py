"""``dossr-bench scale``: a simulation of many images on many GPUs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.files import write_whole
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..rounding import percent, significant
from ..tables import markdown_table
from .assumptions import ACTOR_BYTES, CLUSTER, GPU_BYTES, JOB, Assumption, assumptions
from .cluster import GB, Cluster, Job, actors_that_fit, gpus_at, limits
from .simulation import Outcome, simulate

if TYPE_CHECKING:
    from .sweep import Point

_SHARED = ("storage", "scheduler", "manifest")


@click.command("scale", cls=Command)
@click.option("--images", type=click.IntRange(1), default=JOB.images, show_default=True,
              help="Images to upscale.")  # fmt: skip
@click.option("--gpus", type=click.IntRange(1), default=CLUSTER.gpus, show_default=True,
              help=f"GPUs, in nodes of {CLUSTER.gpus_per_node}.")  # fmt: skip
@click.option("--actors", type=click.IntRange(1), default=CLUSTER.actors_per_gpu, show_default=True,
              help="Actors per GPU: one computes, the others read and write.")  # fmt: skip
@click.option("--seconds-per-megapixel", "seconds", type=click.FloatRange(0.0, min_open=True),
              default=CLUSTER.seconds_per_megapixel, show_default=True,
              help="Seconds of a GPU per megapixel of the result.")  # fmt: skip
@click.option("--block", type=click.IntRange(1), default=JOB.block, show_default=True,
              help="Images of one task.")  # fmt: skip
@click.option("--storage", type=click.FloatRange(0.0, min_open=True), metavar="GB/S",
              default=CLUSTER.storage_bytes_per_s / GB, show_default=True,
              help="Bandwidth of the storage, all nodes together.")  # fmt: skip
@click.option("--mtbf", type=click.FloatRange(0.0, min_open=True), metavar="HOURS",
              default=CLUSTER.node_mtbf_s / 3600.0, show_default=True,
              help="Mean time between failures of one node.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of failures, slow GPUs and compute times.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Also simulate other numbers of GPUs and times between failures, and write scale.md, .json "
              "and .png to this folder.")  # fmt: skip
def scale(
    images: int,
    gpus: int,
    actors: int,
    seconds: float,
    block: int,
    storage: float,
    mtbf: float,
    seed: int,
    out: Path | None,
) -> None:
    """Simulate many images on many GPUs, with failures and stragglers. Nothing is measured.

    Prints how the job goes and how many GPUs each shared part allows. What is not an option is in
    the table of assumptions that --out writes.

    \b
    Examples:
      dossr-bench scale
      dossr-bench scale --gpus 3000 --storage 100 --mtbf 6334
      dossr-bench scale --out scale
    """
    if actors > actors_that_fit(GPU_BYTES, ACTOR_BYTES):
        raise click.UsageError(
            f"--actors must fit the memory of a GPU, {actors_that_fit(GPU_BYTES, ACTOR_BYTES)} of "
            f"{ACTOR_BYTES / GB:g} GB in {GPU_BYTES / GB:g} GB, got {actors}"
        )
    make_folders(out)
    job = replace(JOB, images=images, block=block)
    cluster = replace(
        CLUSTER, gpus=gpus, actors_per_gpu=actors, seconds_per_megapixel=seconds,
        storage_bytes_per_s=storage * GB, node_mtbf_s=mtbf * 3600.0,
    )  # fmt: skip
    try:
        with Terminal().phase("simulating"):
            outcome = simulate(cluster, job, seed)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(report(cluster, job, outcome))
    for path in _write(cluster, job, outcome, seed, out) if out else []:
        click.echo(path)


def report(cluster: Cluster, job: Job, outcome: Outcome) -> str:
    """Return how a job went, and where its cluster stops scaling."""
    found = limits(cluster, job)
    rows = [
        ("time [s]", significant(outcome.seconds)),
        ("images per second", significant(outcome.rate)),
        ("of all GPUs computing [%]", percent(outcome.rate / found["GPUs"])),
        ("failures of nodes", str(outcome.failures)),
        ("images handed out again", f"{outcome.retried:,}"),
        ("GPU hours lost with them", significant(outcome.wasted_gpu_s / 3600.0)),
        ("images finished twice", str(sum(count > 1 for count in outcome.finished))),
        *((f"{name} busy [%]", percent(share)) for name, share in outcome.busy.items()),
    ]
    head = (f"simulated: {job.images:,} images, {cluster.gpus:,} GPUs", "")
    parts = [
        (name, significant(found[name]), _count(gpus_at(name, cluster, job))) for name in _SHARED
    ]
    return "\n\n".join(
        [
            markdown_table(head, rows),
            markdown_table(
                ("shared part", "images per second, at most", "GPUs that need it all"), parts
            ),
        ]
    )


def _count(gpus: float) -> str:
    return f"{gpus:,.0f}" if math.isfinite(gpus) else "no limit"


def _write(cluster: Cluster, job: Job, outcome: Outcome, seed: int, out: Path) -> list[Path]:
    """Simulate both sweeps and write all three files."""
    from ..measure.provenance import save
    from .plot import draw, png
    from .sweep import GPUS, MTBF_HOURS, Point, over_failures, over_gpus

    with Terminal().phase("simulating other clusters"):
        by_gpus = list(over_gpus(cluster, job, seed))
        by_mtbf = list(over_failures(cluster, job, seed))
    paths = [out / f"scale.{end}" for end in ("md", "json", "png")]
    assumed = assumptions(cluster, job)
    parts = [
        report(cluster, job, outcome),
        _sweep(by_gpus, job),
        _sweep(by_mtbf, job),
        _assumed(assumed),
    ]
    if missing := len(GPUS) + len(MTBF_HOURS) - len(by_gpus) - len(by_mtbf):
        parts.insert(3, f"{missing} clusters are left out: their nodes fail before a task ends.")
    write_whole(paths[0], ("# Simulated\n\n" + "\n\n".join(parts) + "\n").encode())
    document = {
        "kind": "simulated",
        "seed": seed,
        "job": asdict(job),
        "run": _as_dict(Point(cluster, outcome)),
        "runs": [_as_dict(point) for point in (*by_gpus, *by_mtbf)],
        "assumptions": [asdict(each) for each in assumed],
    }
    save(document, paths[1])
    write_whole(paths[2], png(draw(by_gpus, by_mtbf, job)))
    return paths


def _sweep(points: "Sequence[Point]", job: Job) -> str:
    from .plot import efficiency

    head = (
        "simulated: GPUs", "hours between failures of a node", "time [s]", "images per second",
        "of all GPUs computing [%]", "failures", "images handed out again", "storage busy [%]",
    )  # fmt: skip
    return markdown_table(
        head,
        [
            (
                f"{point.cluster.gpus:,}",
                significant(point.cluster.node_mtbf_s / 3600.0),
                significant(point.outcome.seconds),
                significant(point.outcome.rate),
                percent(efficiency(point, job)),
                str(point.outcome.failures),
                f"{point.outcome.retried:,}",
                percent(point.outcome.busy["storage"]),
            )
            for point in points
        ],
    )


def _assumed(assumed: Sequence[Assumption]) -> str:
    rows = [(each.what, each.value, each.source) for each in assumed]
    return markdown_table(("assumption", "value", "source"), rows)


def _as_dict(point: "Point") -> dict[str, Any]:
    """Return a run without its million counts."""
    outcome = asdict(point.outcome)
    outcome["finished_once"] = all(count == 1 for count in outcome.pop("finished"))
    return {"cluster": asdict(point.cluster), **outcome, "rate": point.outcome.rate}
