"""Simulate a job on a cluster, event by event.

An actor takes a task from the scheduler, reads its images, waits for its GPU, computes, writes the
results and their rows of the manifest. Scheduler, storage and manifest serve one after the other, in
order of arrival; so do a node's network and a GPU. When a node fails, the tasks of its actors go back
to the scheduler: a task counts when its rows are in the manifest, and only then.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from .cluster import Cluster, Job


@dataclass(frozen=True)
class Outcome:
    """How a simulated job went."""

    seconds: float
    """From the start of the nodes to the last row of the manifest."""

    finished: tuple[int, ...]
    """How often each task was finished."""

    images: int
    failures: int
    """Nodes that failed before the job ended."""

    retried: int
    """Images whose task was lost and handed out again."""

    wasted_gpu_s: float
    """Compute time of tasks that were lost."""

    busy: dict[str, float]
    """Share of the time in which scheduler, storage, manifest and GPUs (on average) were busy."""

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def simulate(cluster: Cluster, job: Job, seed: int = 0) -> Outcome:
    """Simulate a job; the same seed gives the same outcome."""
    return _Simulation(cluster, job, seed).run()


_MOST_FAILURES = 100
"""For each task and node, after which a job is given up."""


class _Server:
    """Serves one request after the other, in order of arrival."""

    def __init__(self) -> None:
        self.free_at = self.busy = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """Return when a request that arrives now is finished."""
        self.free_at = max(now, self.free_at) + seconds
        self.busy += seconds
        return self.free_at


@dataclass
class _Actor:
    node: int
    gpu: int
    block: int | None = None
    """The task in hand."""

    computed_s: float = 0.0
    """Compute time spent on it."""


@dataclass
class _Node:
    actors: list[int] = field(default_factory=list)
    network: _Server = field(default_factory=_Server)
    life: int = 0
    """Raised by each failure: events of an earlier life are void."""


class _Simulation:
    def __init__(self, cluster: Cluster, job: Job, seed: int) -> None:
        self._cluster, self._job = cluster, job
        self._random = np.random.default_rng(seed)
        self._scheduler, self._storage, self._manifest = _Server(), _Server(), _Server()
        self._gpus = [_Server() for _ in range(cluster.gpus)]
        self._slowness = self._slow_gpus()
        self._pace = self._block_paces()
        self._nodes = [_Node() for _ in range(cluster.nodes)]
        self._actors: list[_Actor] = []
        for gpu in range(cluster.gpus):
            node = gpu // cluster.gpus_per_node
            for _ in range(cluster.actors_per_gpu):
                self._nodes[node].actors.append(len(self._actors))
                self._actors.append(_Actor(node, gpu))
        self._waiting = deque(range(job.blocks))
        self._idle: list[int] = []
        self._finished = [0] * job.blocks
        self._left = job.blocks
        self._failures = self._retried = 0
        self._wasted = 0.0
        self._events: list[tuple[float, int, str, int, int]] = []
        self._count = 0

    def run(self) -> Outcome:
        """Handle events in order of time until every task is finished."""
        steps = {
            "boot": self._boot, "up": self._up, "fail": self._fail, "read": self._read,
            "compute": self._compute, "write": self._write, "note": self._note, "done": self._done,
        }  # fmt: skip
        for node in range(len(self._nodes)):
            self._boot(0.0, node)
        now = 0.0
        while self._left:
            now, _, kind, subject, life = heapq.heappop(self._events)
            node = subject if kind in ("boot", "up", "fail") else self._actors[subject].node
            if life == self._nodes[node].life:
                steps[kind](now, subject)
        return self._outcome(now)

    def _slow_gpus(self) -> list[float]:
        cluster = self._cluster
        is_slow = self._random.random(cluster.gpus) < cluster.slow_share
        return [cluster.slow_factor if slow else 1.0 for slow in is_slow.tolist()]

    def _block_paces(self) -> list[float]:
        """Return the compute time of each task relative to the usual one; the mean is 1."""
        sigma = self._cluster.jitter
        drawn = self._random.normal(-(sigma**2) / 2, sigma, self._job.blocks)
        return [float(pace) for pace in np.exp(drawn)]

    def _at(self, time: float, kind: str, subject: int, node: int) -> None:
        self._count += 1  # breaks ties in order of creation
        event = (time, self._count, kind, subject, self._nodes[node].life)
        heapq.heappush(self._events, event)

    def _boot(self, now: float, node: int) -> None:
        """Start a node: it fetches the bundle and opens its networks; it may fail at any time."""
        fetched = self._moved(now, node, self._cluster.bundle_bytes)
        self._at(fetched + self._cluster.start_s, "up", node, node)
        if np.isfinite(self._cluster.node_mtbf_s):
            life = float(self._random.exponential(self._cluster.node_mtbf_s))
            self._at(now + life, "fail", node, node)

    def _up(self, now: float, node: int) -> None:
        for actor in self._nodes[node].actors:
            self._ready(now, actor)

    def _fail(self, now: float, node: int) -> None:
        """Lose the tasks of a node's actors and start it again."""
        self._failures += 1
        if self._failures > _MOST_FAILURES * (self._job.blocks + len(self._nodes)):
            raise ValueError(
                "nodes must live long enough to finish tasks; raise the time between failures"
            )
        self._nodes[node].life += 1
        mine = set(self._nodes[node].actors)
        for number in mine:
            self._lose(now, self._actors[number])
        waked, self._idle = [number for number in self._idle if number not in mine], []
        for number in waked:
            self._ready(now, number)
        self._at(now + self._cluster.restart_s, "boot", node, node)

    def _lose(self, now: float, actor: _Actor) -> None:
        """Give an actor's task back; what its GPU had not computed yet is not computed."""
        gpu = self._gpus[actor.gpu]
        undone = max(0.0, gpu.free_at - now)
        gpu.free_at, gpu.busy = now, gpu.busy - undone
        self._wasted -= undone
        if actor.block is not None:
            self._waiting.appendleft(actor.block)
            self._retried += self._job.size(actor.block)
            self._wasted += actor.computed_s
            actor.block = None

    def _ready(self, now: float, number: int) -> None:
        """Take a task from the scheduler, or wait for one."""
        if not self._waiting:
            self._idle.append(number)
            return
        actor = self._actors[number]
        actor.block, actor.computed_s = self._waiting.popleft(), 0.0
        dispatched = self._scheduler.serve(now, self._cluster.dispatch_s)
        self._at(dispatched, "read", number, actor.node)

    def _read(self, now: float, number: int) -> None:
        actor = self._actors[number]
        amount = self._images(actor) * self._job.read_bytes
        self._at(self._moved(now, actor.node, amount), "compute", number, actor.node)

    def _compute(self, now: float, number: int) -> None:
        actor = self._actors[number]
        assert actor.block is not None
        usual = self._cluster.seconds_per_megapixel * self._job.megapixels
        seconds = self._images(actor) * usual * self._slowness[actor.gpu] * self._pace[actor.block]
        actor.computed_s = seconds
        self._at(self._gpus[actor.gpu].serve(now, seconds), "write", number, actor.node)

    def _write(self, now: float, number: int) -> None:
        actor = self._actors[number]
        amount = self._images(actor) * self._job.write_bytes
        self._at(self._moved(now, actor.node, amount), "note", number, actor.node)

    def _note(self, now: float, number: int) -> None:
        actor = self._actors[number]
        noted = self._manifest.serve(now, self._images(actor) * self._cluster.manifest_s)
        self._at(noted, "done", number, actor.node)

    def _done(self, now: float, number: int) -> None:
        actor = self._actors[number]
        assert actor.block is not None
        self._finished[actor.block] += 1
        self._left -= 1
        actor.block = None
        self._ready(now, number)

    def _images(self, actor: _Actor) -> int:
        assert actor.block is not None
        return self._job.size(actor.block)

    def _moved(self, now: float, node: int, amount: float) -> float:
        """Return when bytes have passed the node's network and the storage, both in their order."""
        network = self._nodes[node].network.serve(now, amount / self._cluster.node_bytes_per_s)
        storage = self._storage.serve(now, amount / self._cluster.storage_bytes_per_s)
        return max(network, storage)

    def _outcome(self, now: float) -> Outcome:
        shared = {
            "scheduler": self._scheduler,
            "storage": self._storage,
            "manifest": self._manifest,
        }
        gpus = sum(gpu.busy for gpu in self._gpus) / len(self._gpus)
        return Outcome(
            seconds=now,
            finished=tuple(self._finished),
            images=self._job.images,
            failures=self._failures,
            retried=self._retried,
            wasted_gpu_s=self._wasted,
            busy={**{name: each.busy / now for name, each in shared.items()}, "GPUs": gpus / now},
        )
