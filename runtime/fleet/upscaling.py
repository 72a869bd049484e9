"""A run on a cluster: from the command line to the rows of its manifest."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import ray
import ray.data

from ..cli.arguments import Arguments
from ..cli.checks import check_options, name_results
from ..cli.jobs import Job, check_outputs
from ..cli.one_image import Settings
from ..cli.opening import check_engines
from ..cli.output import DEFAULT
from ..cli.results import SETTINGS
from ..errors import BundleError
from ..files import remove_leftovers
from ..memory import memory_need
from ..terminal import log as log_to_terminal
from .attempts import end_attempts, new_attempts
from .cluster import (
    Worker,
    choose_worker,
    connected,
    count_workers,
    last_line,
    make_ready,
    quiet,
    wait_for_room,
)
from .inputs import Inputs, Item, find_inputs, find_output
from .left import Left, find_left
from .node import BundleSource, find_bundle
from .places import Place, PlaceError
from .records import Records, Row
from .worker import Work
from .worker import Worker as Actor

_MOST = 16  # images of a task of Ray
_TASKS = 32  # of each worker, where there are enough images, so that all workers end together
_BEGINNING = 10.0  # seconds until an unfinished file of another process is surely locked
_QUEUED = 2  # tasks given to a worker, so that it never waits for the next one


@dataclass
class Report:
    """What became of the images of a run."""

    done: int = 0
    """Images that were upscaled."""

    skipped: int = 0
    """Images whose result was there."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    """Images that failed, and why in one line."""

    workers: int = 0
    seconds: float = 0.0
    """From the first task to the last row."""

    manifest: str = ""
    """The folder of the manifest."""

    stopped: str = ""
    """Why the run ended before all images were in work; empty where it did not."""


@dataclass(frozen=True)
class Plan:
    """A run that was checked: what is left to do, and with what."""

    arguments: Arguments
    settings: Settings
    bundle: BundleSource
    memory: int
    inputs: Inputs
    output: Place
    records: Records
    made_with: dict[str, Any]
    left: Left


def check_fleet(arguments: Arguments) -> Plan:
    """Return the plan of a run; raise click.UsageError for wrong use. Starts no cluster, writes nothing.

    Raise OSError for a store that does not answer.
    """
    _check_refused(arguments)
    output = find_output(arguments.output)
    suffix = arguments.format or DEFAULT
    settings, naming = check_options(arguments, suffix), name_results(arguments, suffix)
    try:
        source, manifest = find_bundle(arguments.bundle_text, arguments.device)
        settings.sampling.check(manifest)
    except BundleError as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    check_engines(arguments, manifest)
    device = "cpu" if arguments.device == "auto" else arguments.device  # asked of processors only
    need = memory_need(manifest, device, settings.sampling.tiling,
                       low_memory=arguments.low_memory)  # fmt: skip
    inputs = find_inputs(arguments.inputs, output, naming)
    records = Records(output)
    made_with = {"bundle_sha256": source.sha256, "device": arguments.device,
                 "precision": list(arguments.precision),
                 **{name: getattr(arguments, name) for name in SETTINGS}}  # fmt: skip
    left = find_left(arguments, inputs.items, output, records, made_with)
    plan = Plan(arguments, settings, source, need.total if need else 0, inputs, output, records,
                made_with, left)  # fmt: skip
    _check_local(plan)
    return plan


def run_fleet(
    plan: Plan,
    on_row: Callable[[Row], None] = lambda row: None,
    log: Callable[[str], None] = log_to_terminal,
) -> Report:
    """Upscale what a plan leaves to do.

    ``on_row`` is called with each row of the manifest, ``log`` with a message if the cluster is busy.

    Raise click.UsageError, before any work, if the cluster cannot be had or has no room.
    """
    report = Report(skipped=len(plan.inputs.items) - len(plan.left.todo))
    report.manifest = plan.records.place.name
    report.failures += [(name, why) for name, why in plan.inputs.failures]
    try:
        if plan.left.todo:
            with connected(str(plan.arguments.ray)):
                _upscale(plan, report, on_row, log)
        elif plan.left.found:
            _record(plan)
        if plan.arguments.overwrite and plan.inputs.items and not report.stopped:
            plan.records.begin(plan.made_with, plan.left.run, overwriting=False)
    except PlaceError as error:  # of the manifest; that of an image is a row
        report.stopped = str(error)
    finally:
        _remove_leftovers(plan)
    return report


def _record(plan: Plan) -> None:
    """Begin the manifest with what earlier runs did not record."""
    plan.records.begin(plan.made_with, plan.left.run, overwriting=plan.arguments.overwrite)
    plan.records.add(plan.left.found)
    plan.records.flush()


def _upscale(
    plan: Plan, report: Report, on_row: Callable[[Row], None], log: Callable[[str], None]
) -> None:
    arguments = plan.arguments
    quiet()
    worker = choose_worker(
        arguments.threads, arguments.gpus_per_worker, plan.memory, arguments.device
    )
    report.workers = min(count_workers(worker, arguments.workers), len(plan.left.todo))
    make_ready(plan.bundle, worker)
    wait_for_room(worker, log)
    _record(plan)
    attempts = new_attempts()
    began = time.perf_counter()
    try:
        _work_off(plan, worker, attempts, report, on_row)
    except ray.exceptions.RayError as error:
        report.stopped = last_line(error)
    finally:
        report.seconds = time.perf_counter() - began
        end_attempts(attempts)


def _work_off(
    plan: Plan, worker: Worker, attempts: Any, report: Report, on_row: Callable[[Row], None]
) -> None:
    """Give the images to the workers and record what becomes of them."""
    systems, records = _systems(plan.left.todo)
    own = replace(plan.arguments, threads=worker.cores, bundle=None, bundle_uri=None)
    settings = replace(
        plan.settings,
        skip_existing=not plan.arguments.overwrite,
        pages_in_tiff=plan.arguments.format is None,
    )
    work = Work(own, settings, plan.bundle, systems, plan.output, attempts)
    missing = set(range(len(records)))
    try:
        for part in _results(work, records, worker, report.workers):
            report.stopped = next((record["fatal"] for record in part if record["fatal"]), "")
            if report.stopped:
                return
            numbers = [record["number"] for record in part]
            attempts.forget.remote(numbers)
            missing.difference_update(numbers)
            _take(plan.records, [_row(plan, record) for record in part], report, on_row)
    finally:
        plan.records.flush()
    if missing:
        report.stopped = f"Ray lost {len(missing)} images; run the command again"


def _results(
    work: Work, records: list[dict[str, Any]], worker: Worker, workers: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield what the workers return, task by task, in the order in which they end."""
    size = max(1, min(_MOST, len(records) // (workers * _TASKS)))
    dataset = ray.data.from_items(records, override_num_blocks=-(-len(records) // size))
    dataset = dataset.map_batches(
        Actor,
        fn_constructor_args=(work,),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=_QUEUED),
        **worker.options,
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield batch.to_pylist()


def _take(
    records: Records, rows: Sequence[Row], report: Report, on_row: Callable[[Row], None]
) -> None:
    """Count and record what became of some images."""
    for row in rows:
        if row.error is not None:
            report.failures.append((row.input, row.error))
        elif row.seconds is None:
            report.skipped += 1
        else:
            report.done += 1
        on_row(row)
    records.add(rows)


def _row(plan: Plan, record: dict[str, Any]) -> Row:
    """Return the line of the manifest for a record of a worker's table."""
    known = {
        name: record[name] for name in ("input", "width", "height", "frames", "seconds", "error")
    }
    target = plan.left.todo[record["number"]].target
    return Row(output=target, notes=tuple(record["notes"] or ()), run=plan.left.run, **known)


def _systems(items: Sequence[Item]) -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    """Return the file systems of the sources, each once, and a record for each image."""
    systems: list[Any] = []
    places: dict[int, int] = {}  # by identity: equality of file systems is slow
    records = []
    for number, item in enumerate(items):
        key = item.source.identity[0]
        if key not in places:
            places[key] = len(systems)
            systems.append(item.source.system)
        records.append({"number": number, "source": item.source.path, "name": item.source.name,
                        "system": places[key], "target": item.target})  # fmt: skip
    return tuple(systems), records


def _check_refused(arguments: Arguments) -> None:
    """Raise click.UsageError for an option that needs one process."""
    for name, value in (
        ("--compare", arguments.compare),
        ("--dry-run", arguments.dry_run),
        ("--seeds", arguments.seeds),
    ):
        if value:
            raise click.UsageError(f"{name} cannot be had with --ray; leave one of both out")


def _check_local(plan: Plan) -> None:
    """Check results on a disk as ``dossr-run`` does, and remove what killed runs left there."""
    if plan.output.is_local:
        check_outputs([Job(None, target) for target in _targets(plan)], overwrite=True)
        _remove_leftovers(plan)


def _remove_leftovers(plan: Plan) -> None:
    """Remove unfinished files that killed workers left beside results on a disk."""
    if plan.output.is_local:
        for folder in {target.parent for target in _targets(plan)}:
            remove_leftovers(folder, time.time() - _BEGINNING)


def _targets(plan: Plan) -> list[Path]:
    return [Path(plan.output.path) / item.target for item in plan.left.todo]
