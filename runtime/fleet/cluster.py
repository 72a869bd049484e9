"""The cluster: started or joined, its room for workers, its nodes made ready."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when a cluster starts
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ... import __version__
from ..errors import reason
from ..memory import in_gigabytes
from .node import BundleSource, prepare

LOCAL = "local"
_AUTO = "auto"
_CLIENT = "ray://"
_CONNECT = 5.0  # seconds to reach a cluster
_OBJECTS = 1 << 30  # bytes of the object store of a cluster that we start, for rows alone
_CORES = 4  # of a worker on a processor, by default
_PATIENCE = 10.0  # seconds that a worker's room may take before the cluster is called busy


@dataclass(frozen=True)
class Worker:
    """What each worker holds."""

    cores: int
    gpus: float
    memory: int
    """In bytes, 0 if unknown."""

    @property
    def text(self) -> str:
        """Such as ``4 cores, 0.5 GPUs and 3.1 GB of memory``."""
        parts = [f"{self.cores} core{'s' if self.cores > 1 else ''}"]
        parts += [f"{self.gpus:g} GPU{'s' if self.gpus > 1 else ''}"] if self.gpus else []
        parts += [f"{in_gigabytes(self.memory)} of memory"] if self.memory else []
        return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

    @property
    def options(self) -> dict[str, Any]:
        """As tasks and actors of Ray ask for it."""
        return {
            "num_cpus": self.cores,
            "num_gpus": self.gpus or None,
            "memory": self.memory or None,
        }


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Join the cluster at an address, or start one on this machine, and leave it after the block.

    ``address``: local, auto (that of this machine) or HOST:PORT. With local, the cluster of
    ``RAY_ADDRESS`` is taken where that is set, as in a job of Ray. Raise click.UsageError if there is none.
    """
    if address == LOCAL:
        address = os.environ.get("RAY_ADDRESS") or LOCAL
    was_connected = ray.is_initialized()
    if not was_connected:
        _check_address(address)
        _join(address)
    try:
        yield
    finally:
        if not was_connected:
            ray.shutdown()


def _join(address: str) -> None:
    """Call ``ray.init``; the program keeps its own handling of SIGTERM, which Ray replaces."""
    own = {"include_dashboard": False, "object_store_memory": _OBJECTS} if address == LOCAL else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise click.UsageError(
            f"no Ray cluster at {address}: {reason(error)}; one that asks for a token needs "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _check_address(address: str) -> None:
    """Raise click.UsageError for an address that is none, or where nothing listens."""
    if address in (LOCAL, _AUTO):
        return
    if address.startswith(_CLIENT):
        raise click.UsageError(
            f"--ray takes HOST:PORT, got {address}; submit the command to the cluster instead: "
            "ray job submit --address http://HEAD:8265 -- dossr-run ... --ray auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise click.UsageError(
            f"--ray takes local, auto or HOST:PORT, got '{address}'; give it last, or --ray local"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
    except (OSError, OverflowError, UnicodeError) as error:  # UnicodeError: no name of a host
        raise click.UsageError(
            f"no Ray cluster at {address}: {reason(error)}; start one with: ray start --head"
        ) from error


def choose_worker(cores: int | None, gpus: float | None, memory: int, device: str) -> Worker:
    """Return what a worker holds: what is asked, else a GPU or a few cores, as the device needs."""
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise click.UsageError(
            f"--gpus-per-worker must be a share up to 1 or a whole number, got {gpus:g}"
        )
    nodes = _nodes()
    if gpus is None:
        has_gpus = any(node["Resources"].get("GPU") for node in nodes)
        gpus = float(device not in ("cpu", "openvino", "openvino:CPU", "auto")
                     or (device == "auto" and has_gpus))  # fmt: skip
    if cores is None:
        largest = max(int(node["Resources"].get("CPU", 0)) for node in nodes)
        cores = 1 if gpus else max(1, min(_CORES, largest))
    return Worker(cores, gpus, 0 if gpus else memory)


def count_workers(worker: Worker, asked: int | None) -> int:
    """Return how many workers to start; raise click.UsageError if the cluster has no room for them."""
    nodes = _nodes()
    room = sum(_fitting(node["Resources"], worker) for node in nodes)
    if not room:
        most = {name: max(node["Resources"].get(name, 0) for node in nodes)
                for name in ("CPU", "GPU", "memory")}  # fmt: skip
        raise click.UsageError(
            f"a worker needs {worker.text}, and the largest node has {most['CPU']:g} cores, "
            f"{most['GPU']:g} GPUs and {in_gigabytes(int(most['memory']))}; ask for less by --threads, "
            "--gpus-per-worker or --tile, or add nodes first"
        )
    if asked is not None and asked > room:
        raise click.UsageError(
            f"--workers must be at most {room} on this cluster, with {worker.text} each, got {asked}"
        )
    return asked or room


def make_ready(source: BundleSource, worker: Worker) -> None:
    """Check dossr and the bundle on every node that takes workers, and fetch the bundle there.

    Raise click.UsageError, naming the node, where something is missing.
    """
    task = ray.remote(num_cpus=0, max_retries=1)(prepare)
    nodes = [node for node in _nodes() if _fitting(node["Resources"], worker)]
    started = [
        (node, task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(source))
        for node in nodes
    ]  # fmt: skip
    for node, reference in started:
        where = node["NodeManagerHostname"]
        try:
            wrong, version = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise click.UsageError(f"node {where} cannot run dossr: {last_line(error)}") from error
        if wrong:
            raise click.UsageError(f"node {where}: {wrong}" if len(nodes) > 1 else wrong)
        if version != __version__:
            raise click.UsageError(
                f"node {where} must have dossr {__version__}, got {version}; install the same version"
            )


def wait_for_room(worker: Worker, log: Callable[[str], None]) -> None:
    """Return once a worker could start; ``log`` is told if other work holds the cluster until then.

    Raise click.UsageError if Ray gives up.
    """
    room = ray.remote(**worker.options)(lambda: None).remote()
    if not ray.wait([room], timeout=_PATIENCE)[0]:
        free = {"CPU": 0.0, "GPU": 0.0, "memory": 0.0, **ray.available_resources()}
        log(
            f"the cluster is busy: a worker needs {worker.text} of one node, and {free['CPU']:g} cores, "
            f"{free['GPU']:g} GPUs and {in_gigabytes(int(free['memory']))} are free in all; waiting"
        )
    try:
        ray.get(room)
    except ray.exceptions.RayError as error:
        raise click.UsageError(f"the cluster cannot start a worker: {last_line(error)}") from error


def last_line(error: Exception) -> str:
    """Return the last line of an error of Ray without the name of its class: what went wrong."""
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    line = lines[-1] if lines else type(error).__name__
    head, _, rest = line.partition(": ")
    return rest if rest and head.replace(".", "").replace("_", "").isalnum() else line


def _nodes() -> Sequence[Mapping[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _fitting(resources: Mapping[str, float], worker: Worker) -> int:
    """Return how many workers a node holds. A share of a GPU does not reach over two of them."""
    numbers = [resources.get("CPU", 0) // worker.cores]
    if worker.gpus:
        gpus = resources.get("GPU", 0)
        each = gpus // worker.gpus if worker.gpus >= 1 else int(gpus) * int(1 / worker.gpus + 1e-9)
        numbers.append(each)
    if worker.memory:
        numbers.append(resources.get("memory", 0) // worker.memory)
    return int(min(numbers))


def quiet() -> None:
    """Keep Ray Data's log off the terminal, but for its progress bar; its own files keep all of it."""
    context = ray.data.DataContext.get_current()
    context.print_on_execution_start = False
    context.enable_progress_bars = sys.stderr.isatty()
    context.enable_operator_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
