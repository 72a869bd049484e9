"""Simulate a job over numbers of GPUs, and over the time between failures."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from .cluster import Cluster, Job
from .simulation import Outcome, simulate

GPUS = (1, 8, 32, 100, 320, 1000, 2000, 3200, 10_000)
MTBF_HOURS = (0.25, 0.5, 1.0, 3.0, 10.0, 24.0, 100.0, 6334.0)


@dataclass(frozen=True)
class Point:
    """A cluster and how the job went on it."""

    cluster: Cluster
    outcome: Outcome


def over_gpus(
    cluster: Cluster, job: Job, seed: int, counts: Iterable[int] = GPUS
) -> Iterator[Point]:
    """Yield the job on clusters of these numbers of GPUs, but where it would not end."""
    return _points((replace(cluster, gpus=count) for count in counts), job, seed)


def over_failures(
    cluster: Cluster, job: Job, seed: int, hours: Iterable[float] = MTBF_HOURS
) -> Iterator[Point]:
    """Yield the job on clusters whose nodes fail this often, but where it would not end."""
    return _points((replace(cluster, node_mtbf_s=3600.0 * each) for each in hours), job, seed)


def _points(clusters: Iterable[Cluster], job: Job, seed: int) -> Iterator[Point]:
    for cluster in clusters:
        with suppress(ValueError):  # nodes fail before a task ends
            yield Point(cluster, simulate(cluster, job, seed))
