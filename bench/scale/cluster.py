"""A cluster and a job: what a simulation assumes, and the limits that follow in closed form.

Units are seconds and bytes throughout; a GPU computes one image at a time, whatever its actors.
"""

import math
from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True)
class Job:
    """Images to upscale."""

    images: int
    megapixels: float
    """1e6 pixels of a result."""

    read_bytes: float
    """Of an image's file."""

    write_bytes: float
    """Of a result's file."""

    block: int
    """Images of one task: what the scheduler hands out, and what a failure loses."""

    @property
    def blocks(self) -> int:
        """The number of tasks; the last one may be smaller."""
        return math.ceil(self.images / self.block)

    def size(self, block: int) -> int:
        """Return the images of a task."""
        return min(self.block, self.images - block * self.block)

    @property
    def bytes(self) -> float:
        """What an image moves to and from the storage."""
        return self.read_bytes + self.write_bytes


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs, and what they share. An infinite bandwidth and a time of zero are no limit."""

    gpus: int
    gpus_per_node: int
    actors_per_gpu: int
    """Actors read and write while others compute."""

    seconds_per_megapixel: float
    """Of a GPU that computes."""

    storage_bytes_per_s: float = math.inf
    """Of all nodes together."""

    node_bytes_per_s: float = math.inf
    """Of a node's network."""

    dispatch_s: float = 0.0
    """The scheduler's time for one task; tasks wait for each other."""

    manifest_s: float = 0.0
    """The time of one row of the manifest; rows wait for each other."""

    start_s: float = 0.0
    """From the start of a node until its networks are open, without fetching the bundle."""

    bundle_bytes: float = 0.0
    """Fetched once by every node that starts."""

    node_mtbf_s: float = math.inf
    """Mean time between failures of one node; times are exponential."""

    restart_s: float = 0.0
    """From a failure until the node starts again."""

    slow_share: float = 0.0
    """Share of the GPUs that are slow."""

    slow_factor: float = 1.0
    """How much longer a slow GPU takes."""

    jitter: float = 0.0
    """Standard deviation of the logarithm of a task's compute time."""

    @property
    def nodes(self) -> int:
        """The number of nodes; the last one may have fewer GPUs."""
        return math.ceil(self.gpus / self.gpus_per_node)


def limits(cluster: Cluster, job: Job) -> dict[str, float]:
    """Return the images per second that each part of the cluster allows at most."""
    slowed = 1.0 - cluster.slow_share + cluster.slow_share / cluster.slow_factor
    return {
        "GPUs": cluster.gpus * slowed / (cluster.seconds_per_megapixel * job.megapixels),
        "storage": cluster.storage_bytes_per_s / job.bytes,
        "node networks": cluster.nodes * cluster.node_bytes_per_s / job.bytes,
        "scheduler": _rate(job.block, cluster.dispatch_s),
        "manifest": _rate(1, cluster.manifest_s),
    }


def gpus_at(limit: str, cluster: Cluster, job: Job) -> float:
    """Return how many GPUs reach a limit that all share: more of them gain nothing."""
    found = limits(cluster, job)
    return found[limit] * cluster.gpus / found["GPUs"]


def actors_that_fit(memory_bytes: float, actor_bytes: float) -> int:
    """Return how many actors a GPU's memory holds."""
    return int(memory_bytes // actor_bytes)


def _rate(images: int, seconds: float) -> float:
    return images / seconds if seconds else math.inf
