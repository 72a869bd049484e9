"""What a run reports: a line for each image, notes once, one JSON document, the compare page."""

import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..bundle import DEMO
from ..errors import ImageError
from ..memory import MemoryPlan, describe, in_gigabytes
from ..options import Tiling
from ..progress import PhaseProgress, columns, cut, status_text
from ..seeds.records import draw_lines, draws_record
from ..terminal import printable, say
from .arguments import Arguments
from .jobs import Plan
from .one_image import Failed, Loaded, Outcome, Settings, Skipped, Written
from .search import PassedOver, count_text

if TYPE_CHECKING:
    from ..pipeline import Pipeline

SETTINGS = (
    "scale", "longest", "shortest", "width", "height", "fit",
    "steps", "order", "seed", "seeds", "best", "start", "detail", "color_fix", "tile", "overlap", "batch",
    "format", "quality", "suffix", "depth", "background", "profile", "strip", "first_frame", "tf32",
)  # fmt: skip
"""Options in the JSON document."""

_SHOWN = 3  # renamed files that a note names
_REDRAW = 0.1  # seconds between two drawings


class StatusLine:
    """Progress over all images on stderr, drawn on a terminal only. Serves several threads."""

    def __init__(self, images: int) -> None:
        self._is_on = sys.stderr.isatty()
        self._images = PhaseProgress(images)
        self._share = 0.0  # of the image in work
        self._columns = 0  # that the line takes
        self._drawn_at = 0.0
        self._lock = threading.Lock()

    def move(self, label: str, share: float) -> None:
        """Show how far the image in work is, 0 to 1, and the time left for all."""
        with self._lock:
            if share > self._share:
                self._images.advance(share - self._share)
            self._share = share
            if self._is_on and time.monotonic() - self._drawn_at >= _REDRAW:
                self._draw(status_text(label, share, self._images.left))

    def end_image(self) -> None:
        """Count the image in work as done, whether its networks ran or not."""
        with self._lock:
            self._images.advance(1 - self._share)
            self._share = 0.0

    def result(self, text: str, stream: TextIO) -> None:
        """Print a line on stdout or stderr."""
        with self._lock:
            self._clear()
            click.echo(printable(text), file=stream)

    def error(self, text: str) -> None:
        """Print an error of the command."""
        with self._lock:
            self._clear()
            say("dossr-run", printable(text))

    def close(self) -> None:
        """Remove the line."""
        with self._lock:
            self._clear()

    def _draw(self, text: str) -> None:
        """Replace the line; one that is wider than the terminal would stay there."""
        text = cut(text, shutil.get_terminal_size().columns - 1)
        taken = columns(text)
        sys.stderr.write(f"\r{text}{' ' * (self._columns - taken)}")
        sys.stderr.flush()
        self._columns, self._drawn_at = taken, time.monotonic()

    def _clear(self) -> None:
        if self._columns:
            sys.stderr.write(f"\r{' ' * self._columns}\r")
            sys.stderr.flush()
            self._columns = 0


class Reporter:
    """Prints what becomes of each image; serves several threads."""

    def __init__(self, settings: Settings, images: int, results: TextIO | None) -> None:
        """Print results on ``results``: stdout, stderr, or not at all."""
        self.line = StatusLine(images)
        self._size = settings.size
        self._results = results
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def begin(self, item: Loaded) -> None:
        """Print what is to be known about an image before its networks run."""
        for note in item.source.notes:
            self.tell(f"{item.job.name}: {note}")
        if any(self._size.is_beyond_networks(frame.size) for frame in item.source.frames):
            self.tell("above 4x the rest is Lanczos")

    def end(self, outcome: Outcome) -> None:
        """Print the result of an image, or its error."""
        if isinstance(outcome, Failed):
            self.line.error(outcome.reason)
        elif isinstance(outcome, Written) and self._results:
            for line in draw_lines(outcome) if outcome.draws else (_result_line(outcome),):
                self.line.result(line, self._results)

    def tell(self, text: str) -> None:
        """Print a line on stderr, each text once."""
        with self._lock:
            is_new = text not in self._told
            self._told.add(text)
        if is_new:
            self.line.result(text, sys.stderr)

    def tell_memory(self, memory: MemoryPlan, wanted: Tiling) -> None:
        """Tell where the free memory asks for smaller tiles, or may not suffice for any."""
        if memory.tiling == wanted and memory.fits:
            return
        tiles = describe(memory.tiling)
        need, free = in_gigabytes(memory.need.total), in_gigabytes(memory.free or 0)
        if memory.fits:
            self.tell(f"{tiles}, because of {free} of free memory")
        else:
            self.tell(f"{tiles} need about {need}, and {free} are free: memory may run out")

    def tell_plan(self, plan: Plan) -> None:
        """Tell which names were changed and what is passed over, one line each."""
        if plan.renamed:
            shown = [f"{job.name} -> {job.target}" for job in plan.renamed[:_SHOWN]]
            more = len(plan.renamed) - len(shown)
            and_more = f" and {more} more" if more else ""
            self.tell(f"names that would clash were changed: {', '.join(shown)}{and_more}")
        if plan.passed_over:
            self.tell(f"passed over: {count_text(plan.passed_over)}")


def document(
    arguments: Arguments, pipeline: "Pipeline | None", plan: Plan, outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """Return the document for --json."""
    return {
        "bundle": str(arguments.bundle or DEMO),
        "device": pipeline.device.name if pipeline else arguments.device,
        "precision": pipeline.precision if pipeline else {},
        **{name: getattr(arguments, name) for name in SETTINGS},
        "results": [_record(each) for each in outcomes if not isinstance(each, Skipped)],
        "skipped": [
            str(path) for each in outcomes if isinstance(each, Skipped) for path in each.job.outputs
        ],
        "passed_over": [passed_over_record(item) for item in plan.passed_over],
    }


def passed_over_record(item: PassedOver) -> dict[str, Any]:
    """Return what was passed over, for JSON."""
    return {"input": str(item.path), "what": item.what, "remedy": item.remedy}


def write_comparison(
    path: Path, outcomes: Sequence[Outcome], arguments: Arguments
) -> tuple[str, ...]:
    """Write the compare page of the images that are done; return what failed, one line each."""
    from ..compare import Pair, write_compare_page

    pairs = [
        Pair(each.job.name, each.job.source, each.job.target, getattr(each, "seconds", None))
        for each in outcomes
        if not isinstance(each, Failed) and each.job.source and each.job.target
    ]
    if not pairs:
        return ()
    about = f"{arguments.bundle or 'demo model'}, {arguments.steps} steps, {_drawn(arguments)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_compare_page(path, pairs, about=about)
    except ImageError as error:
        return (str(error),)
    except OSError as error:
        return (f"{path} cannot be written: {error.strerror}",)


def _drawn(arguments: Arguments) -> str:
    """Return which seed the images are of, or of which seeds they are the best."""
    first, count = arguments.seed, arguments.seeds
    if count is None:
        return f"seed {first}"
    return f"best of the seeds {first} to {first + count - 1} by {arguments.best}"


def _result_line(done: Written) -> str:
    frames = f"  {done.frames} frames" if done.frames > 1 else ""
    return f"{done.job.target_name}  {done.size[0]} x {done.size[1]}{frames}  {done.seconds:.1f} s"


def _record(outcome: Written | Failed) -> dict[str, Any]:
    """Return an image for JSON; one that failed has an error and no output."""
    if isinstance(outcome, Failed):
        return {"input": outcome.job.name, "error": outcome.reason}
    return {
        "input": outcome.job.name,
        "output": str(outcome.job.target),
        "width": outcome.size[0],
        "height": outcome.size[1],
        "frames": outcome.frames,
        "depth": outcome.depth,
        "notes": list(outcome.notes),
        "seconds": round(outcome.seconds, 3),
        **(draws_record(outcome) if outcome.draws else {}),
    }
