"""All draws of one image of ``dossr-run``: scored as they come, written behind, told apart at the end."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..cli.one_image import (
    FAILURES,
    Draw,
    Failed,
    Loaded,
    Outcome,
    Sampler,
    Settings,
    Written,
    depth_of,
    failed,
    write,
)
from ..cli.overlap import WriteBehind
from ..files import write_whole
from ..images.source import Pixels
from ..terminal import printable
from .iqa import MeasureError
from .measures import Measure
from .request import SeedsRequest
from .sheet import ContactSheet
from .statistics import Statistics, spread_image, white_level


def draw_all(
    sampler: Sampler,
    loaded: Loaded,
    settings: Settings,
    progress: Callable[[str, float], None],
    behind: WriteBehind,
    end: Callable[[Outcome], None],
) -> Outcome | None:
    """Sample all seeds of an image and hand each result to the writer; return what failed before.

    ``end`` is called with the outcome when the last file is written. ``progress`` is called with a text
    such as ``seed 43, 2 of 8`` and the share of the image that is done.
    """
    began = time.perf_counter()
    work = _Work(loaded, settings)
    seeds = work.seeds

    def move(done: int, total: int) -> None:
        number = min(len(seeds) - 1, work.drawn)
        progress(f"seed {seeds[number]}, {number + 1} of {len(seeds)}", done / total)

    pixels, depth = loaded.source.frames[0].pixels, depth_of(loaded, settings)
    try:
        for seed, image in zip(seeds, sampler.draws(pixels, depth, seeds, move), strict=True):
            work.take(seed, image)
            if work.request.best is None:
                behind.submit(partial(work.write_draw, seed, image))
            if work.failure:
                break
    except (*FAILURES, MeasureError) as error:
        behind.wait()
        return failed(loaded, error)
    seconds = loaded.seconds + time.perf_counter() - began
    behind.submit(partial(_finish, work, seconds, end))
    return None


def _finish(work: "_Work", seconds: float, end: Callable[[Outcome], None]) -> None:
    end(work.failure or work.finish(seconds))


@dataclass
class _Work:
    """What is known of an image while its draws come."""

    loaded: Loaded
    settings: Settings
    drawn: int = 0
    draws: dict[int, Draw] = field(default_factory=dict)
    failure: Failed | None = None
    _best: tuple[float, int, Pixels] | None = None
    """Score, seed and pixels."""

    def __post_init__(self) -> None:
        request, measure = self.settings.seeds, self.settings.measure
        assert request is not None
        assert measure is not None
        self.request: SeedsRequest = request
        self.measure: Measure = measure
        self.seeds = self._missing()
        self.is_complete = len(self.seeds) == request.count
        self._statistics: Statistics | None = None
        self._sheet: ContactSheet | None = None

    def _missing(self) -> list[int]:
        """Return the seeds to sample: all, or those without a file where nothing else needs them."""
        request, target = self.request, self.loaded.job.target
        if not self.settings.skip_existing or target is None or request.best:
            return list(request.seeds)
        files = [request.draw(target, seed) for seed in request.seeds]
        if not all(path.exists() for path in request.files(target) if path not in files):
            return list(request.seeds)
        found = zip(request.seeds, files, strict=True)
        return [seed for seed, path in found if not path.exists()]

    def take(self, seed: int, image: Pixels) -> None:
        """Score a draw and add it to the sheet and the sums; keep the best."""
        height, width = image.shape[:2]
        score = self.measure.score(image, self.loaded.source.frames[0].pixels)
        if self._best is None or self.measure.is_better(score, self._best[0]):
            self._best = score, seed, image if self.request.best else image[:0]
        self.draws[seed] = Draw(seed, score)
        if self.is_complete and self.request.has_statistics:
            self._statistics = self._statistics or Statistics(height, width, image.dtype)
            self._statistics.add(image)
        if self.is_complete and self.request.sheet:
            title = f"{printable(self.loaded.job.name)}: {self.request.count} seeds, {self.measure.name}"
            self._sheet = self._sheet or ContactSheet(self.request.count, (width, height), title)
            self._sheet.add(image, f"seed {seed}  {score:.2f}")
        self.drawn += 1

    def write_draw(self, seed: int, image: Pixels) -> None:
        """Write a draw under its own name."""
        target = self.loaded.job.target
        assert target is not None
        path = self.request.draw(target, seed)
        if self._write(path, image):
            self.draws[seed] = replace(self.draws[seed], output=path)

    def finish(self, seconds: float) -> Outcome:
        """Write the best draw, the mean, the sheet and the spread; return the outcome."""
        began, job = time.perf_counter(), self.loaded.job
        also: dict[str, Path] = {}
        white = None
        assert self._best is not None
        _, best, pixels = self._best
        if self.request.best and self._write(job.target, pixels):
            self.draws[best] = replace(self.draws[best], output=job.target)
        if self._statistics and job.target:
            if self.request.mean:
                also["mean"] = self.request.also(job.target, "mean")
                self._write(also["mean"], self._statistics.mean())
            if self.request.spread:
                also["spread"] = self.request.also(job.target, "spread")
                white = self._write_spread(also["spread"], self._statistics.spread())
        if self._sheet and job.target:
            also["sheet"] = self.request.also(job.target, "sheet")
            self._write_png(also["sheet"], self._sheet.page(list(self.draws).index(best)))
        if self.failure:
            return self.failure
        seconds += time.perf_counter() - began
        return Written(
            job,
            self.loaded.sizes[0],
            frames=1,
            depth=pixels.dtype.itemsize * 8,
            notes=self.loaded.source.notes,
            seconds=seconds,
            draws=tuple(self.draws.values()),
            measure=self.measure.name,
            best=best if self.is_complete else None,
            also=also,
            white=white,
        )

    def _write(self, path: Path | None, image: Pixels) -> bool:
        """Write a result as ``write`` does; a file that exists is kept where those are skipped."""
        if path and self.settings.skip_existing and path.exists():
            return True
        job = replace(self.loaded.job, target=path, files=())
        outcome = write(replace(self.loaded, job=job), [image], self.settings, 0.0)
        if isinstance(outcome, Failed):
            self.failure = self.failure or Failed(self.loaded.job, outcome.reason)
        return isinstance(outcome, Written)

    def _write_spread(self, path: Path, spread: np.ndarray) -> int:
        """Write a spread in the size of the result; return the level that is white."""
        white = white_level(spread)
        image = Image.fromarray(spread_image(spread, white))
        seeds, text = self.request.seeds, PngInfo()
        text.add_text(
            "Description",
            f"standard deviation over {len(seeds)} seeds ({seeds[0]} to {seeds[-1]}), "
            f"white is {white} of 255 levels or more",
        )
        size = self.loaded.sizes[0]
        if image.size != size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        self._write_png(path, image, text)
        return white

    def _write_png(self, path: Path, image: Image.Image, text: PngInfo | None = None) -> None:
        if self.settings.skip_existing and path.exists():
            return
        data = io.BytesIO()
        image.save(data, "PNG", pnginfo=text)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data.getbuffer(), replace=self.settings.overwrite)
        except OSError as error:
            reason = f"{path} cannot be written: {error.strerror}"
            self.failure = self.failure or Failed(self.loaded.job, reason)
