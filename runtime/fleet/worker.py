"""A worker: an actor that opens the bundle once and upscales the images that it is given."""

import io
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click
import pyarrow as pa
import ray
from pyarrow import fs

from ..cli.arguments import Arguments
from ..cli.jobs import Job
from ..cli.loop import run_jobs
from ..cli.one_image import Failed, Outcome, Settings, Skipped, Written
from ..cli.opening import open_pipeline
from ..cli.results import Reporter
from ..errors import EngineError, ImageError, one_line, reason
from .attempts import MOST, State, begin, begun, end
from .node import BundleSource
from .places import Place, PlaceError

_LARGEST_IMAGE = 1 << 30  # bytes of a file in a store

_SCHEMA = pa.schema({
    "number": pa.int64(), "input": pa.string(), "width": pa.int64(), "height": pa.int64(),
    "frames": pa.int64(), "seconds": pa.float64(),
    "notes": pa.list_(pa.string()), "error": pa.string(), "fatal": pa.string(),
})  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What all workers of a run are given."""

    arguments: Arguments
    settings: Settings
    bundle: BundleSource
    systems: tuple[fs.FileSystem, ...]
    """Of the sources."""

    output: Place
    attempts: Any
    """Handle of the count of attempts."""


@dataclass(frozen=True, kw_only=True)
class StoredJob(Job):
    """An image that is read and written wherever it lies; counted when it is begun."""

    number: int
    origin: Place
    result: Place
    attempts: Any

    @property
    def name(self) -> str:
        """The source as messages show it."""
        return self.origin.name

    @property
    def target_name(self) -> str:
        """The target as messages show it."""
        return self.result.name

    @property
    def suffix(self) -> str:
        """Suffix of the format to write."""
        return Path(self.result.path).suffix

    @property
    def is_done(self) -> bool:
        """Whether the target exists."""
        return super().is_done if self.target else bool(self.result.kind())

    def opened(self) -> Path | BinaryIO:
        """Return the source; raise ImageError if workers died on it before, or if it cannot be read."""
        if begin(self.attempts, self.number) > MOST:
            raise ImageError(
                f"{self.name}: the worker died {MOST} times while it was in work; "
                "run it alone with dossr-run to see why"
            )
        if self.source:
            return super().opened()
        try:
            data = self.origin.read(_LARGEST_IMAGE)
        except PlaceError as error:
            raise ImageError(str(error)) from error
        if len(data) > _LARGEST_IMAGE:
            raise ImageError(f"{self.name} must be an image of at most {_LARGEST_IMAGE >> 30} GiB")
        return io.BytesIO(data)

    def put(self, data: memoryview) -> None:
        """Write the encoded result to its place."""
        try:
            self.result.write(data)
        except PlaceError as error:
            raise ImageError(str(error)) from error


class Worker:
    """Called by Ray Data with a table of images; returns a table of what became of them."""

    def __init__(self, work: Work) -> None:
        """Open the networks. If that fails, all that the worker returns is why, in one line."""
        logging.getLogger("ray").setLevel(logging.ERROR)
        self._work, self._fatal = work, ""
        name = f"worker {ray.get_runtime_context().get_actor_id()}"  # the same when it is started again
        try:
            if begin(work.attempts, name) > MOST:
                raise EngineError(
                    f"a worker on {socket.gethostname()} died {MOST} times while it opened the networks; "
                    "upscale one image there with dossr-run to see why"
                )
            bundle = None if work.bundle.place is None else work.bundle.on_this_node()
            self._pipeline = open_pipeline(replace(work.arguments, bundle=bundle))
            work.attempts.forget.remote([name])
        except Exception as error:  # raised from here, it would fill the terminal of the driver
            self._fatal = one_line(_message(error))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Upscale the images of a table with the columns number, source, name, system and target.

        The column ``fatal`` of the result ends the run if it is not empty.

        A table that is given again, because a worker died with it, is worked off one by one.
        """
        if self._fatal:
            return pa.Table.from_pylist([{"fatal": self._fatal}], schema=_SCHEMA)
        jobs = [self._job(**row) for row in table.to_pylist()]
        before = begun(self._work.attempts, [job.number for job in jobs])
        outcomes = map(partial(self._again, before), jobs) if before else self._outcomes(jobs)
        return pa.Table.from_pylist([_record(each) for each in outcomes], schema=_SCHEMA)

    def _again(self, before: dict[int, State], job: StoredJob) -> Outcome:
        """Return what became of an image, or was before its worker died."""
        failure = before.get(job.number)
        if isinstance(failure, str):
            return Failed(job, failure) if failure else Skipped(job)
        [outcome] = self._outcomes([job])
        end(self._work.attempts, job.number, outcome.reason if isinstance(outcome, Failed) else "")
        return outcome

    def _outcomes(self, jobs: Sequence[StoredJob]) -> Sequence[Outcome]:
        return list(_outcomes(self._pipeline, jobs, self._work.settings))

    def _job(self, number: int, source: str, name: str, system: int, target: str) -> StoredJob:
        origin = Place(self._work.systems[system], source, name)
        result = self._work.output.below(target)
        return StoredJob(
            Path(source) if origin.is_local else None,
            Path(result.path) if result.is_local else None,
            number=number,
            origin=origin,
            result=result,
            attempts=self._work.attempts,
        )


def _outcomes(pipeline: Any, jobs: Sequence[StoredJob], settings: Settings) -> Iterator[Outcome]:
    """Yield what became of each image; an unexpected error is one of its image, not of the worker."""
    try:
        yield from run_jobs(pipeline, jobs, settings, Reporter(settings, len(jobs), None))
    except Exception as error:
        if len(jobs) > 1:
            for job in jobs:
                yield from _outcomes(pipeline, [job], settings)
        else:
            yield Failed(jobs[0], one_line(f"{jobs[0].name}: {reason(error)}"))


def _record(outcome: Outcome) -> dict[str, Any]:
    job = outcome.job
    assert isinstance(job, StoredJob)
    row = {"number": job.number, "input": job.name, "notes": []}
    if isinstance(outcome, Failed):
        return {**row, "error": outcome.reason}
    if isinstance(outcome, Written):
        width, height = outcome.size
        row |= {"width": width, "height": height, "frames": outcome.frames,
                "seconds": round(outcome.seconds, 3), "notes": list(outcome.notes)}  # fmt: skip
    return row


def _message(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    return str(error) or type(error).__name__
