"""The pipeline: from an image to an image four times as large, stage by stage."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ..solvers import Schedule
from .bundle import Manifest
from .engines.device import Device, Host
from .engines.engine import Engine
from .engines.lazy import LazyEngine
from .engines.networks import Networks, NetworkSource, Settings, loaded_source, shared_source
from .engines.tensorrt.options import BuildOptions
from .errors import OutOfMemoryError
from .hardware import free_memory
from .images.arrays import result_dtype, to_pixels
from .memory import in_gigabytes
from .options import TILE, SamplingOptions, Tiling
from .sampling import Observe, draw_noise, draw_noises, latent_shape
from .seeds.draws import Draws, OnProgress, together
from .tensors import SCALE, Array
from .terminal import log as log_to_terminal


def load_pipeline(
    bundle: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    *,
    low_memory: bool = False,
    build: BuildOptions | None = None,
    tf32: bool | None = None,
    precision: str | Sequence[str] = "auto",
    verify: bool = False,
    threads: int | None = None,
    log: Callable[[str], None] = log_to_terminal,
) -> "Pipeline":
    """Open a bundle for upscaling; by default the built-in demo model.

    ``device`` is a name in DEVICES, or "auto": engines that are built and fit, else CUDA if it gives
    the golden vectors of the demo model, else OpenVINO where the processor computes in bfloat16, else
    the CPU; ``log`` is told which and why.
    ``low_memory`` holds one network at a time and reloads each for every image. ``build`` sets how
    TensorRT builds engines and is for its devices only. ``tf32``: whether float32 products on a GPU
    may use TensorFloat-32; None: in float16 bundles only. ``precision`` is "auto", "fp32", "bf16" or
    "int8", or several words for single stages, such as ("bf16", "decoder=fp32"); bf16 and int8 are for
    OpenVINO, int8 for the stages that the bundle has in it (the others take auto). ``threads``: of the
    networks on a processor, for OpenVINO of all pipelines of the process; None: one for each core.

    Check the manifest and the SHA-256 of every file first; large files that did not change are hashed
    once, with ``verify`` again. Raise BundleError if they do not match, ValueError for an unknown device
    or precision, ModuleNotFoundError if a package of the device is not installed, and EngineError if a
    network cannot be opened.
    """
    settings = Settings(
        None if bundle is None else Path(bundle).absolute(),
        device,
        low_memory,
        build,
        tf32,
        (precision,) if isinstance(precision, str) else tuple(precision),
        verify,
        threads,
    )
    return _pipeline(loaded_source(settings, log))


class Pipeline:
    """The networks of one bundle on one device, by default the CPU. Serves one thread.

    A pipeline of ``load_pipeline`` can be pickled and forked. Only its settings and its bundle's path
    and hash are passed on: a worker opens the networks when it first needs them, once for equal
    pipelines. After a fork that works on processors only, not on GPUs.
    """

    def __init__(
        self,
        stages: Mapping[str, Engine],
        manifest: Manifest,
        device: Device | None = None,
        precision: Mapping[str, str] | None = None,
    ) -> None:
        networks = Networks(stages, manifest, device or Host(), precision or {})
        self._source = NetworkSource(None, networks)

    def __reduce__(self) -> tuple[Callable[[Settings], "Pipeline"], tuple[Settings]]:
        if self._source.settings is None:
            raise TypeError(
                "a pipeline made from open networks cannot be pickled; call load_pipeline in the worker"
            )
        return _unpickled, (self._source.settings,)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about its model."""
        return self._source.get().manifest

    @property
    def device(self) -> Device:
        """Where the networks run."""
        return self._source.get().device

    @property
    def precision(self) -> dict[str, str]:
        """The precision in which each stage computes."""
        return dict(self._source.get().precision)

    @property
    def _stages(self) -> Mapping[str, Engine]:
        return self._source.get().stages

    def upscale(
        self,
        lr: Any,
        *,
        steps: int = 5,
        order: int = 3,
        seed: int = 42,
        seeds: int | None = None,
        color_fix: str = "wavelet",
        tile: int = TILE,
        overlap: int | None = None,
        batch: int = 1,
        schedule: Schedule | None = None,
        start: int = 500,
        detail: float = 1.0,
        depth: int | None = None,
        noise: Sequence[Array] | None = None,
        observe: Observe | None = None,
        progress: OnProgress | None = None,
    ) -> Array:
        """Upscale an sRGB image four times: (h, w, 3) -> (4h, 4w, 3).

        ``lr`` is an array of uint8, uint16 or floats in [0, 1], and the result has the same form: its
        dtype, float32 for floats. Grey arrays, nested lists of integers (8 bits) or floats, and PIL
        images are taken too. The result is always an RGB array. ``depth`` 8 or 16 chooses uint8 or
        uint16 instead. The networks compute in floats; their result is rounded once. Transparency is
        refused unless it is opaque.

        ``seeds``: how many draws to return, of ``seed``, ``seed`` + 1 and so on, as an array (seeds, 4h,
        4w, 3). Each is the image of its seed alone, to the byte, and the restorer and the encoder run
        once for all. ``draws`` gives them one after the other, in the memory of one.

        ``steps`` to ``color_fix`` and ``schedule`` to ``detail`` are explained in SamplingOptions,
        ``tile`` to ``batch`` in Tiling, the others in ``run``. Raise ValueError for a wrong argument,
        EngineError if a network fails, OutOfMemoryError if all images exceed the free memory.
        """
        options = SamplingOptions(
            steps, order, seed, color_fix, Tiling(tile, overlap, batch), schedule, start, detail
        )
        watching: _Watching = {"depth": depth, "observe": observe, "progress": progress}
        if seeds is None:
            return self.run(lr, options, noise=noise, **watching)
        if noise is not None:
            raise ValueError("each seed has its own noise; give seeds or noise, not both")
        return self._drawn(to_pixels(lr), options, seeds, watching)

    def upscale_many(self, images: Iterable[Any], **options: Any) -> Iterator[Array]:
        """Upscale images one after the other, each when it is asked for, with equal options.

        ``options`` are those of ``upscale``. Every image has the noise of the same seed, so its result
        does not depend on the others. An image that fails raises its error; the next call goes on.
        """
        return map(partial(self.upscale, **options), images)

    def run(
        self,
        lr: Any,
        options: SamplingOptions,
        *,
        depth: int | None = None,
        noise: Sequence[Array] | None = None,
        observe: Observe | None = None,
        progress: OnProgress | None = None,
    ) -> Array:
        """Upscale an image, see ``upscale``.

        ``noise`` replaces the noise of the seed: ``steps + 2`` float32 arrays of ``latent_shape``, in
        the order posterior, start, one per step. Noise covers the whole image, tiled or not.

        ``observe(name, array)`` receives every intermediate in float32: ``restored``, ``hint`` and
        ``x_lr`` of the padded image; ``x``, ``eps`` and ``x0`` of each step; ``latent``; ``decoded``,
        nominally in [0, 1]; ``image``, (1, 3, 4h, 4w) in [0, 1] after the colour fix and the crop.
        Arrays stay on the device: on a GPU they are CuPy arrays.

        ``progress(done, total)`` is called before the first run of a network and after each run.
        """
        pixels = to_pixels(lr)
        dtype, shape = result_dtype(pixels, depth), self.latent_shape(*pixels.shape[:2])
        options.check(self.manifest)
        drawn = (  # a generator holds no noise that it gave away
            draw_noise(options.seed, options.steps, shape)
            if given is None
            else _stacked(given, options.steps, shape)
            for given in [noise]
        )
        draws = Draws(self._source.get(), pixels, options, observe or _ignore, progress or _ignore)
        return next(draws.images(drawn, 1, dtype))

    def draws(
        self,
        lr: Any,
        options: SamplingOptions,
        seeds: Sequence[int],
        *,
        depth: int | None = None,
        observe: Observe | None = None,
        progress: OnProgress | None = None,
    ) -> Iterator[Array]:
        """Yield the image of each seed, in order; restorer and encoder run once for all.

        Each is the image that ``run`` returns for its seed, to the byte; ``options.seed`` is not used.
        One image is held at a time. ``options.tiling.batch`` tiles, of one draw or of several, go
        through the denoiser in one call: on a GPU the last bits of a network may depend on that number,
        on a processor they do not.

        The other arguments and errors are those of ``run``; all are checked at once. ``observe`` receives
        ``restored`` and ``hint`` once, ``x_lr`` to ``latent`` of all draws that are sampled together,
        (draws, channels, height, width), and ``decoded`` and ``image`` of each draw.
        """
        pixels = to_pixels(lr)
        dtype, shape = result_dtype(pixels, depth), self.latent_shape(*pixels.shape[:2])
        options.check(self.manifest)
        if not seeds or min(seeds) < 0:
            raise ValueError("seeds must be one or more numbers from 0 on")
        networks = self._source.get()
        size, is_reloaded = pixels.shape[1::-1], isinstance(networks.stages["denoiser"], LazyEngine)
        part = together(self.manifest, options, size, len(seeds), is_reloaded=is_reloaded)
        drawn = (
            draw_noises(seeds[first : first + part], options.steps, shape)
            for first in range(0, len(seeds), part)
        )
        draws = Draws(networks, pixels, options, observe or _ignore, progress or _ignore)
        return draws.images(drawn, len(seeds), dtype)

    def _drawn(
        self, pixels: Array, options: SamplingOptions, count: int, watching: "_Watching"
    ) -> Array:
        """Return the images of ``count`` seeds in one array."""
        images = _empty_images(count, pixels.shape, result_dtype(pixels, watching["depth"]))
        seeds = range(options.seed, options.seed + count)
        for place, image in zip(
            images, self.draws(pixels, options, seeds, **watching), strict=True
        ):
            place[:] = image
        return images

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape of each noise array for an LR image of this size."""
        return latent_shape(self.manifest, height, width)


class _Watching(TypedDict):
    """Arguments of ``run`` and of ``draws``."""

    depth: int | None
    observe: Observe | None
    progress: OnProgress | None


def _unpickled(settings: Settings) -> Pipeline:
    return _pipeline(shared_source(settings))


def _pipeline(source: NetworkSource) -> Pipeline:
    pipeline = Pipeline.__new__(Pipeline)
    pipeline._source = source
    return pipeline


def _ignore(*_: Any) -> None:
    """No-op callback."""


def _stacked(noise: Sequence[Array], steps: int, shape: tuple[int, ...]) -> Array:
    arrays = [np.asarray(array, np.float32) for array in noise]
    wrong = [array.shape for array in arrays if array.shape != shape]
    if len(arrays) != steps + 2 or wrong:
        got = f"one of shape {wrong[0]}" if wrong else f"{len(arrays)}"
        raise ValueError(f"noise must be {steps + 2} arrays of shape {shape}, got {got}")
    return np.stack(arrays)


def _empty_images(seeds: Any, lr: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return memory for the results of an LR image (h, w, 3), one for each seed."""
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be the number of draws, 1 or more, got {seeds!r}")
    shape = (seeds, lr[0] * SCALE, lr[1] * SCALE, 3)
    need, free = math.prod(shape) * dtype.itemsize, free_memory()
    if free is not None and need > free:
        raise OutOfMemoryError(
            f"{seeds} results of {shape[2]} x {shape[1]} need {in_gigabytes(need)}, and "
            f"{in_gigabytes(free)} are free; give fewer seeds, or take them one by one from draws()"
        )
    return np.empty(shape, dtype)
