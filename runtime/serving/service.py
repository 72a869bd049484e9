"""The service: a pipeline, and what becomes of the image file or the array of one request."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError, one_line
from ..images.reader import read_image
from ..images.sizes import Size
from ..images.source import Frame, Pixels, SourceImage
from ..images.writer import check_writable, result_depth, write_image
from ..memory import image_bytes, is_size_needed, plan_memory, run_with_less, shortage
from ..options import TILE, SamplingOptions, Tiling
from ..tensors import SCALE, Image
from .inputs import Asked, as_inputs, check_names, sampling_options, target_size, write_options
from .settings import ServiceSettings

if TYPE_CHECKING:
    from ..pipeline import Pipeline

Log = Callable[[str], None]


class RequestError(ValueError):
    """A request that cannot be served as it is: its client must change it."""


class Service:
    """Upscales image files and arrays with the networks of one pipeline. Serves one thread.

    Results are those of ``dossr-run`` with the same options, byte for byte. Where memory runs out, this
    and all later requests get smaller tiles, unless ``settings`` fixes them; ``log`` is told.
    """

    def __init__(self, pipeline: "Pipeline", settings: ServiceSettings, log: Log) -> None:
        self._pipeline, self._settings, self._log = pipeline, settings, log
        self._tiling = self._planned()

    def upscale(self, data: bytes, asked: Asked) -> bytes:
        """Return the image file of a result for that of a source. ``asked``: values of INPUTS.

        Raise RequestError for a file that is no image or too large and for options out of range,
        EngineError if a network fails, and OutOfMemoryError or MemoryError.
        """
        with _as_request_errors():
            options = sampling_options(asked, self._settings, self._tiling)
            size, writing = target_size(asked), write_options(asked)
            source = self._read(data, first_frame=bool(asked.get("first_frame", False)))
            sizes = [size.of(frame.size) for frame in source.frames]
            self._check_result(sum(width * height for width, height in sizes))
            kind = check_writable(str(writing.format), source, sizes, writing)
            depth = result_depth(source, kind, writing)
            self._check_memory(source, sizes, kind.name, depth, options)
        results = [self._run(frame.pixels, options, depth) for frame in source.frames]
        result = io.BytesIO()
        with _as_request_errors():
            write_image(result, results, source, sizes, writing)
        return result.getvalue()

    def upscale_pixels(self, pixels: Image, asked: Asked) -> Image:
        """Return uint8 (4h, 4w, 3) for uint8 (h, w, 3), both sRGB. Raise as ``upscale`` does."""
        with _as_request_errors():
            check_names(asked, is_file=False)
            options = sampling_options(asked, self._settings, self._tiling)
            height, width, limit = *pixels.shape[:2], self._settings.max_pixels
            if not 1 <= height * width <= limit:
                raise ValueError(
                    f"pixels must have 1 to {limit} pixels, got {width} x {height}; send a smaller array"
                )
            sizes = [(width * SCALE, height * SCALE)]
            self._check_memory(SourceImage((Frame(pixels),)), sizes, "", 8, options)
        return self._run(pixels, options, depth=8).astype(np.uint8, copy=False)

    def _planned(self) -> Tiling:
        """Return the tiles of all requests. Raise ValueError if the bundle does not support them."""
        settings, manifest = self._settings, self._pipeline.manifest
        tile = TILE if settings.tile is None else settings.tile
        tiling = Tiling(tile, settings.overlap, settings.batch)
        tiling.check(manifest.size_multiple)
        plan = plan_memory(manifest, settings.device, tiling) if settings.tile is None else None
        return plan.tiling if plan else tiling

    def _read(self, data: bytes, *, first_frame: bool) -> SourceImage:
        return read_image(
            io.BytesIO(data), self._settings.max_pixels, first_frame=first_frame, name="the input"
        )

    def _check_result(self, pixels: int) -> None:
        limit = self._settings.max_pixels * SCALE**2
        if pixels > limit:
            raise ValueError(
                f"the result must have at most {limit} pixels, got {pixels}; ask for a smaller size, or "
                "send fewer frames"
            )

    def _check_memory(
        self,
        source: SourceImage,
        sizes: Sequence[Size],
        kind: str,
        depth: int,
        options: SamplingOptions,
    ) -> None:
        """Raise MemoryError for an image whose arrays alone are larger than the free memory."""
        manifest, steps = self._pipeline.manifest, options.steps
        need = image_bytes(manifest, source, sizes, kind=kind, depth=depth, steps=steps)
        if lack := shortage(need):
            more = " or fewer frames, or ask for a smaller size"
            advice = more if is_size_needed(source, sizes) else ""
            raise MemoryError(f"the result {lack}; send a smaller image{advice}")

    def _run(self, pixels: Pixels, options: SamplingOptions, depth: int) -> Pixels:
        def upscaled(options: SamplingOptions) -> Pixels:
            return self._pipeline.run(pixels, options, depth=depth)

        if self._settings.tile is not None:
            return upscaled(options)
        multiple = self._pipeline.manifest.size_multiple
        result, taken = run_with_less(upscaled, options, multiple, self._log)
        self._tiling = taken.tiling
        return result


def open_service(bundle: Path, settings: ServiceSettings, log: Log) -> Service:
    """Open a bundle for a service.

    Raise BundleError, EngineError, ValueError or ModuleNotFoundError as ``load_pipeline`` does.
    """
    from ..pipeline import load_pipeline

    pipeline = load_pipeline(
        bundle,
        settings.device,
        precision=settings.precision.split(","),
        threads=settings.threads,
        log=log,
    )
    return Service(pipeline, settings, log)


@contextmanager
def _as_request_errors() -> Iterator[None]:
    """Turn what is wrong with a request into a RequestError of one line, in the words of its inputs."""
    try:
        yield
    except (ImageError, ValueError) as error:
        raise RequestError(as_inputs(one_line(str(error)))) from error
