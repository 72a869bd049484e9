"""One image of a run: read and checked, through the networks, written."""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle import Manifest
from ..errors import BundleError, EngineError, ImageError, OutOfMemoryError
from ..images.formats import writable
from ..images.reader import read_image
from ..images.sizes import Size, TargetSize
from ..images.source import Pixels, SourceImage, WriteOptions
from ..images.writer import check_writable, result_depth, write_image
from ..memory import describe, image_bytes, is_size_needed, run_with_less, shortage, smaller
from ..options import SamplingOptions
from ..seeds.draws import together
from ..seeds.measures import Measure
from ..seeds.request import SeedsRequest
from ..tensors import SCALE
from .jobs import Job

if TYPE_CHECKING:
    from ..pipeline import Pipeline

FAILURES = (BundleError, EngineError, MemoryError)
"""What sampling raises for one image; the others go on."""


@dataclass(frozen=True)
class Settings:
    """What is done with every image."""

    size: TargetSize
    sampling: SamplingOptions
    writing: WriteOptions
    suffix: str
    """Suffix of the format that is written."""

    max_pixels: int
    first_frame: bool = False
    overwrite: bool = False
    skip_existing: bool = False
    shrinks: bool = False
    """Whether tiles and batches become smaller where memory runs out."""

    seeds: SeedsRequest | None = None
    measure: Measure | None = None
    """Scores the draws of ``seeds``."""

    low_memory: bool = False
    """Whether one network is held at a time."""

    pages_in_tiff: bool = False
    """Whether pages are written to TIFF only, where names were given without opening the files."""


class Sampler:
    """Runs the networks; where memory ran out, all images after it get the smaller tiles, too."""

    def __init__(
        self, pipeline: "Pipeline", settings: Settings, tell: Callable[[str], None]
    ) -> None:
        self._pipeline, self._settings, self._tell = pipeline, settings, tell
        self._options = settings.sampling

    def refused(self, loaded: "Loaded") -> "Failed | None":
        """Return the outcome of an image that is larger than the memory that is free now; else None."""
        need = memory_of(loaded, self._settings, self._pipeline.manifest)
        return memory_failure(loaded, need)

    def run(self, pixels: Pixels, depth: int, progress: Callable[[int, int], None]) -> Pixels:
        """Return a frame four times as large."""

        def upscaled(options: SamplingOptions) -> Pixels:
            return self._pipeline.run(pixels, options, depth=depth, progress=progress)

        if not self._settings.shrinks:
            return upscaled(self._options)
        multiple = self._pipeline.manifest.size_multiple
        result, self._options = run_with_less(upscaled, self._options, multiple, self._tell)
        return result

    def draws(
        self,
        pixels: Pixels,
        depth: int,
        seeds: Sequence[int],
        progress: Callable[[int, int], None],
    ) -> Iterator[Pixels]:
        """Yield a frame four times as large for each seed, all in the same tiles.

        Where memory runs out, go on with less; tiles, which change a result, only before the first.
        """
        done, multiple = 0, self._pipeline.manifest.size_multiple
        while done < len(seeds):
            try:
                for image in self._pipeline.draws(
                    pixels, self._options, seeds[done:], depth=depth, progress=progress
                ):
                    done += 1
                    yield image
            except (OutOfMemoryError, MemoryError):
                tiling = self._options.tiling
                less = smaller(tiling, multiple) if self._settings.shrinks else None
                if less is None or (done and less.tile != tiling.tile):
                    raise
                self._options = replace(self._options, tiling=less)
                self._tell(f"memory ran out; going on with {describe(less)}")


@dataclass(frozen=True)
class Loaded:
    """A source that can be upscaled and written."""

    job: Job
    source: SourceImage
    sizes: tuple[Size, ...]
    """Width and height of each frame's result."""

    seconds: float


@dataclass(frozen=True)
class Failed:
    """An image that was not upscaled, and why in one line."""

    job: Job
    reason: str


@dataclass(frozen=True)
class Skipped:
    """An image whose result exists."""

    job: Job


@dataclass(frozen=True)
class Draw:
    """One of several draws of an image."""

    seed: int
    score: float
    output: Path | None = None
    """None: not written on its own."""


@dataclass(frozen=True)
class Written:
    """A result."""

    job: Job
    size: Size
    frames: int
    depth: int
    notes: tuple[str, ...]
    seconds: float
    """Time of reading, of the networks and of writing, without waiting for other images."""

    draws: tuple[Draw, ...] = ()
    """Of several seeds; empty for a run of one."""

    measure: str = ""
    best: int | None = None
    """Seed of the best draw by ``measure``."""

    also: Mapping[str, Path] = field(default_factory=dict)
    """Files of the mean, the sheet and the spread."""

    white: int | None = None
    """Standard deviation in levels of 255 that the spread shows as white."""


Outcome = Written | Failed | Skipped
"""What became of an image."""


def load(job: Job, settings: Settings) -> Loaded | Failed | Skipped:
    """Read a source and check that its result can be written, before any network runs."""
    began = time.perf_counter()
    if settings.skip_existing and job.is_done:
        return Skipped(job)
    try:
        source = read_image(
            job.opened(), settings.max_pixels, first_frame=settings.first_frame, name=job.name
        )
        sizes = tuple(settings.size.of(frame.size) for frame in source.frames)
        _check_pixels(job, sizes, settings.max_pixels)
        _check_seeds(job, source, settings)
        _check_pages(job, source, settings)
        check_writable(job.target or job.suffix or settings.suffix, source, sizes, settings.writing)
    except ImageError as error:
        return Failed(job, str(error))
    except MemoryError:
        return Failed(job, f"{job.name} needs more memory than is available")
    return Loaded(job, source, sizes, time.perf_counter() - began)


def upscale(
    sampler: Sampler,
    loaded: Loaded,
    settings: Settings,
    progress: Callable[[str, float], None],
) -> list[Pixels] | Failed:
    """Return the frames of a source four times as large, all with the noise of one seed.

    ``progress`` is called with a text such as ``frame 2 of 9``, empty for one frame, and the share of
    the image that is done.
    """
    frames, depth = loaded.source.frames, depth_of(loaded, settings)
    results = []
    try:
        for number, frame in enumerate(frames):
            label = f"frame {number + 1} of {len(frames)}" if len(frames) > 1 else ""

            def move(done: int, total: int, number: int = number, label: str = label) -> None:
                progress(label, (number + done / total) / len(frames))

            results.append(sampler.run(frame.pixels, depth, move))
    except FAILURES as error:
        return failed(loaded, error)
    return results


def failed(loaded: Loaded, error: Exception) -> Failed:
    """Return the outcome of an image that was not sampled, or whose draws cannot be scored."""
    job = loaded.job
    if isinstance(error, MemoryError):
        return Failed(job, f"{job.name}: not enough memory for this size; pass a smaller --tile")
    return Failed(job, f"{job.name}: {error}")


def write(
    loaded: Loaded, results: list[Pixels], settings: Settings, seconds: float
) -> Written | Failed | Skipped:
    """Write the result of an image; ``seconds`` were spent on it before."""
    began = time.perf_counter()
    job, depth = loaded.job, results[0].dtype.itemsize * 8
    try:
        size = _write(loaded, results, settings)
    except ImageError as error:
        if settings.skip_existing and job.is_done:  # another process was faster
            return Skipped(job)
        return Failed(job, str(error))
    except MemoryError:
        return Failed(job, f"{job.target_name}: not enough memory to write it")
    return Written(
        job,
        size,
        len(loaded.sizes),
        depth,
        loaded.source.notes,
        seconds + time.perf_counter() - began,
    )


def _write(loaded: Loaded, results: list[Pixels], settings: Settings) -> Size:
    source, sizes, job = loaded.source, loaded.sizes, loaded.job
    if job.target:
        return write_image(
            job.target, results, source, sizes, settings.writing, replace=settings.overwrite
        )
    data = io.BytesIO()
    format = job.suffix or settings.suffix
    size = write_image(data, results, source, sizes, replace(settings.writing, format=format))
    job.put(data.getbuffer())
    return size


def _check_pixels(job: Job, sizes: tuple[Size, ...], max_pixels: int) -> None:
    """Raise ImageError for a result with more pixels than the largest source gives at four times."""
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    limit = max_pixels * SCALE**2
    if width * height > limit:
        raise ImageError(
            f"{job.name}: its result must have at most {limit} pixels (16 times --max-pixels), "
            f"got {width} x {height}; ask for a smaller size or pass a larger --max-pixels"
        )


def _check_seeds(job: Job, source: SourceImage, settings: Settings) -> None:
    """Raise ImageError for an image of several frames and several seeds."""
    if settings.seeds and len(source.frames) > 1:
        raise ImageError(
            f"{job.name} has {len(source.frames)} frames, and --seeds takes still images; "
            "pass --first-frame"
        )


def _check_pages(job: Job, source: SourceImage, settings: Settings) -> None:
    """Raise ImageError for pages whose result was named without knowing of them, as if it were one image."""
    pages, is_tiff = len(source.frames), writable(job.suffix or settings.suffix).name == "TIFF"
    if settings.pages_in_tiff and pages > 1 and not source.is_animated and not is_tiff:
        raise ImageError(f"{job.name} has {pages} pages; pass --format tif or --first-frame")


def memory_of(loaded: Loaded, settings: Settings, manifest: Manifest) -> int:
    """Return what the arrays of an image take at most, in bytes, with all its frames or draws."""
    source, options, depth = loaded.source, settings.sampling, depth_of(loaded, settings)
    kind = writable(loaded.job.suffix or settings.suffix).name
    draws, held = 1, 0
    if settings.seeds:
        width, height = size = source.frames[0].size
        draws = together(
            manifest, options, size, settings.seeds.count, is_reloaded=settings.low_memory
        )
        held = settings.seeds.memory(height, width, depth)
    need = image_bytes(
        manifest, source, loaded.sizes, kind=kind, depth=depth, steps=options.steps, draws=draws
    )
    return need + held


def memory_failure(loaded: Loaded, need: int) -> Failed | None:
    """Return the outcome of an image whose arrays alone are larger than the free memory; else None."""
    lack = shortage(need)
    if lack is None:
        return None
    advice = "reduce the image or cut it"
    if is_size_needed(loaded.source, loaded.sizes):
        advice += ", or ask for a smaller result or fewer frames"
    return Failed(loaded.job, f"{loaded.job.name} {lack}; {advice}")


def depth_of(loaded: Loaded, settings: Settings) -> int:
    """Return the bits a channel of the result."""
    kind = writable(loaded.job.suffix or settings.suffix)
    return result_depth(loaded.source, kind, settings.writing)
