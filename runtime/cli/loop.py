"""All images of a run: the next one is read and the last one written while the networks run."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from ..images.source import Pixels
from ..progress import columns, cut
from ..seeds.written import draw_all
from ..terminal import printable
from .jobs import Job
from .one_image import Failed, Loaded, Outcome, Sampler, Settings, Skipped, load, upscale, write
from .overlap import WriteBehind, read_ahead
from .results import Reporter, StatusLine

if TYPE_CHECKING:
    from ..pipeline import Pipeline


_WIDEST = 40  # columns of a name in a line of progress


def run_jobs(
    pipeline: "Pipeline",
    jobs: Sequence[Job],
    settings: Settings,
    reporter: Reporter,
) -> list[Outcome]:
    """Upscale every image, report each at once, and return the outcomes in the order of the jobs."""
    outcomes: dict[int, Outcome] = {}
    sampler = Sampler(pipeline, settings, reporter.tell)

    def end(number: int, outcome: Outcome) -> None:
        outcomes[number] = outcome
        reporter.end(outcome)

    with (
        closing(reporter.line) as line,
        WriteBehind() as behind,
        closing(read_ahead(load(job, settings) for job in jobs)) as loaded,
    ):
        for number, item in enumerate(loaded):
            if isinstance(item, Loaded):
                reporter.begin(item)
            label = f"[{number + 1}/{len(jobs)}] {_short(jobs[number])}"
            move, finish = partial(_move, line, label), partial(end, number)
            if outcome := _start(sampler, item, settings, move, behind, finish):
                end(number, outcome)
            line.end_image()
            del item
    return [outcomes[number] for number in sorted(outcomes)]


def _start(
    sampler: Sampler,
    item: Loaded | Failed | Skipped,
    settings: Settings,
    progress: Callable[[str, float], None],
    behind: WriteBehind,
    end: Callable[[Outcome], None],
) -> Outcome | None:
    """Run the networks on an image and hand its result to the writer; return what failed before."""
    if not isinstance(item, Loaded):
        return item
    if item.job.is_done and not settings.overwrite:
        if settings.skip_existing:
            return Skipped(item.job)
        return Failed(item.job, f"{item.job.target} was created meanwhile and is not replaced")
    if sampler.refused(item):
        behind.wait()  # the result before it may fill the memory
        if failed := sampler.refused(item):
            return failed
    if settings.seeds:
        return draw_all(sampler, item, settings, progress, behind, end)
    began = time.perf_counter()
    results = upscale(sampler, item, settings, progress)
    if isinstance(results, Failed):
        return results
    seconds = item.seconds + time.perf_counter() - began
    behind.submit(partial(_finish, item, results, settings, seconds, end))
    return None


def _finish(
    item: Loaded,
    results: list[Pixels],
    settings: Settings,
    seconds: float,
    end: Callable[[Outcome], None],
) -> None:
    end(write(item, results, settings, seconds))


def _move(line: StatusLine, label: str, frame: str, share: float) -> None:
    line.move(f"{label} {frame}" if frame else label, share)


def _short(job: Job) -> str:
    """Return a name that fits into a line of progress."""
    shown = printable(job.source.name if job.source else job.name)
    if columns(shown) <= _WIDEST:
        return shown
    return f"{cut(shown, _WIDEST // 2)}...{cut(shown[::-1], _WIDEST // 2)[::-1]}"
