"""What ``dossr-bench scale`` assumes where nothing else is given, each figure with its source."""

from dataclasses import dataclass

from .cluster import GB, Cluster, Job


@dataclass(frozen=True)
class Assumption:
    """One figure of the simulation."""

    what: str
    value: str
    source: str


JOB = Job(
    images=1_000_000,
    megapixels=4.194304,
    read_bytes=0.45e6,
    write_bytes=7.1e6,
    block=16,
)
CLUSTER = Cluster(
    gpus=1000,
    gpus_per_node=8,
    actors_per_gpu=2,
    seconds_per_megapixel=0.23,
    storage_bytes_per_s=25 * GB,
    node_bytes_per_s=12.5 * GB,
    dispatch_s=1e-3,
    manifest_s=13e-6,
    start_s=60.0,
    bundle_bytes=2.69 * GB,
    node_mtbf_s=24 * 3600.0,
    restart_s=300.0,
    slow_share=0.02,
    slow_factor=1.5,
    jitter=0.2,
)

ACTOR_BYTES = 6 * GB
GPU_BYTES = 80 * GB

ASSUMPTIONS = (
    Assumption("image", "512 x 512 to 2048 x 2048 pixels, 4.19 megapixels", "assumed"),
    Assumption(
        "compute",
        "0.23 s of a GPU per megapixel of the result",
        "predicted: the bound of the official bundle in fp16 on an H100, 0.115 s in tiles of 128 (49/16 of the "
        "denoiser's work, 25/16 of the others'), of which half is reached: assumed",
    ),
    Assumption(
        "memory of an actor",
        "6 GB: weights and activations of a tile 3.0 GB, the rest for the engine",
        "predicted 3.0 GB; the rest assumed. An H100 of 80 GB holds 13",
    ),
    Assumption("actors per GPU", "2", "assumed: one reads and writes while the other computes"),
    Assumption("GPUs per node", "8", "assumed"),
    Assumption(
        "files",
        "PNG of 1.7 bytes per pixel: 0.45 MB read, 7.1 MB written",
        "measured: 1.6 to 1.9 on three photographs of scikit-image",
    ),
    Assumption("task", "16 images", "assumed"),
    Assumption("storage", "25 GB/s for all nodes together", "assumed"),
    Assumption("network of a node", "12.5 GB/s (100 Gbit/s)", "assumed"),
    Assumption("scheduler", "1 ms per task, one after the other", "assumed"),
    Assumption(
        "manifest",
        "13 µs per row, one writer that flushes each row",
        "measured: 13 µs with flush, 5.6 ms with fsync, 2 cores of an AMD EPYC under load",
    ),
    Assumption("start of a node", "2.69 GB of bundle from the storage, then 60 s", "measured size of the fp16 bundle; time assumed"),
    Assumption("failures", "24 h between failures of a node, exponential; it starts again after 300 s", "assumed: preemptible nodes. Fixed ones: 6,334 h, from 419 unexpected interruptions in 54 days on 2,048 nodes of 8 (Llama 3, arXiv 2407.21783, Table 5)"),
    Assumption("stragglers", "2 % of the GPUs take 1.5 times as long; tasks vary by 20 % (lognormal)", "assumed"),
)  # fmt: skip


def assumptions(cluster: Cluster, job: Job) -> tuple[Assumption, ...]:
    """Return every figure of a simulation; the source of one that is not the default is "given"."""
    values = {
        "compute": f"{cluster.seconds_per_megapixel:g} s of a GPU per megapixel of the result",
        "actors per GPU": str(cluster.actors_per_gpu),
        "task": f"{job.block} images",
        "storage": f"{cluster.storage_bytes_per_s / GB:g} GB/s for all nodes together",
        "failures": f"{cluster.node_mtbf_s / 3600.0:g} h between failures of a node, exponential; it starts "
        f"again after {cluster.restart_s:g} s",
    }
    given = [each.what for each in ASSUMPTIONS if values.get(each.what, each.value) != each.value]
    return tuple(
        Assumption(each.what, values[each.what], "given") if each.what in given else each
        for each in ASSUMPTIONS
    )
