"""The pipeline: from an image to an image four times as large, stage by stage."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..solvers import Schedule, dos_sde_coefficients
from .bundle import CONDITION, Manifest
from .engines.device import Device, Host
from .engines.engine import Engine, check_output
from .engines.networks import Networks, NetworkSource, Settings, open_networks, shared_source
from .engines.tensorrt.options import BuildOptions
from .errors import EngineError
from .images.arrays import quantize, result_dtype, to_pixels, to_unit
from .images.color import COLOR_FIXES
from .images.padding import pad_to_multiple
from .options import TILE, SamplingOptions, Tiling
from .sampling import Observe, draw_noise, sample
from .tensors import SCALE, Array
from .terminal import log as log_to_terminal
from .tiling import TiledEngine, denoiser_grid, network_grid

OnProgress = Callable[[int, int], None]
"""Called with the number of network runs done (on a GPU: queued) and their total. A tile is a run.

The first call has 0 runs done and follows the check of all arguments."""


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
    or precision and EngineError if a network cannot be opened.
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
    return _pipeline(NetworkSource(settings, open_networks(settings, log)))


class Pipeline:
    """The networks of one bundle on one device, by default the CPU. Serves one thread.

    A pipeline of ``load_pipeline`` can be pickled and forked. Only its settings and its bundle's path
    are passed on: a worker opens the networks when it first needs them, once for equal pipelines.
    After a fork that works on processors only, not on GPUs.
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

        ``steps`` to ``color_fix`` and ``schedule`` to ``detail`` are explained in SamplingOptions,
        ``tile`` to ``batch`` in Tiling, the others in ``run``. Raise ValueError for a wrong argument
        and EngineError if a network fails.
        """
        tiling = Tiling(tile, overlap, batch)
        options = SamplingOptions(
            steps, order, seed, color_fix, tiling, schedule, start=start, detail=detail
        )
        return self.run(lr, options, depth=depth, noise=noise, observe=observe, progress=progress)

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
        dtype = result_dtype(pixels, depth)
        options.check(self.manifest)
        steps, shape = options.steps, self.latent_shape(*pixels.shape[:2])
        drawn = (
            draw_noise(options.seed, steps, shape)
            if noise is None
            else _stacked(noise, steps, shape)
        )
        with self.device.active():
            hr = self._run(pixels, options, drawn, observe or _ignore, progress or _ignore)
            return self.device.download(quantize(hr[0], dtype).transpose(1, 2, 0).copy())

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape of each noise array for an LR image of this size."""
        multiple, factor = self.manifest.size_multiple, self.manifest.vae_factor
        rows, columns = (
            -(-side // multiple) * multiple * SCALE // factor for side in (height, width)
        )
        return 1, self.manifest.latent_channels, rows, columns

    def _run(
        self,
        lr: Array,
        options: SamplingOptions,
        drawn: Array,
        observe: Observe,
        progress: OnProgress,
    ) -> Array:
        """Upload image and noise once, run the stages; return (1, 3, 4h, 4w) on the device."""
        schedule = options.sampled_schedule(self.manifest.schedule)
        coefficients = dos_sde_coefficients(schedule, options.order)
        noise = self.device.upload(drawn)
        image = to_unit(self.device.upload(lr)).transpose(2, 0, 1)[None]
        image = pad_to_multiple(image, self.manifest.size_multiple)
        height, width = image.shape[2], image.shape[3]
        stages = self._tiled(height, width, options, progress)
        restored = stages["restorer"].run(lr=image)["restored"]
        observe("restored", restored)
        check_output("restorer", restored, (1, 3, height * SCALE, width * SCALE))
        x_lr, hint = _encode(stages, restored, noise[0], observe)
        x_lr_weight, noise_weight = schedule.start
        x = x_lr * x_lr_weight + noise[1] * noise_weight
        x = sample(stages["denoiser"], self.device, coefficients, x, x_lr, hint, noise[2:], observe)
        observe("latent", x)
        decoded = stages["decoder"].run(x=x)["image"]
        check_output("decoder", decoded, restored.shape)
        observe("decoded", decoded)
        fixed = COLOR_FIXES[options.color_fix](decoded, restored, options.detail)
        if not self.device.download(np.all(np.isfinite(fixed), axis=(1, 2, 3))).all():
            is_lowered = {"bf16", "int8"} & set(self.precision.values())
            raise EngineError(
                "the networks returned values that are not finite; "
                + (
                    "give --precision fp32"
                    if is_lowered
                    else "export the checkpoint without --fp16"
                )
            )
        hr = np.clip(fixed[:, :, : lr.shape[0] * SCALE, : lr.shape[1] * SCALE], 0.0, 1.0)
        observe("image", hr)
        return hr

    def _tiled(
        self, height: int, width: int, options: SamplingOptions, progress: OnProgress
    ) -> dict[str, Engine]:
        """Return the stages with the tiles of one padded image; report the number of runs to come."""
        tiling, size = options.tiling, (height, width, self.manifest.size_multiple)
        grids = {name: network_grid(tiling, *size) for name in self._stages}
        grids["denoiser"] = denoiser_grid(tiling, *size)
        total = sum(map(len, grids.values())) + (options.steps - 1) * len(grids["denoiser"])
        done = 0

        def tick(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        tick(0)
        return {
            name: TiledEngine(
                stage, grids[name], self.device, tick, tiling.batch if name == "denoiser" else 1
            )
            for name, stage in self._stages.items()
        }


def _unpickled(settings: Settings) -> Pipeline:
    return _pipeline(shared_source(settings))


def _pipeline(source: NetworkSource) -> Pipeline:
    pipeline = Pipeline.__new__(Pipeline)
    pipeline._source = source
    return pipeline


def _encode(
    stages: Mapping[str, Engine], restored: Array, noise: Array, observe: Observe
) -> tuple[Array, Array]:
    """Return x_lr, a sample of the posterior, and the ControlNet's hint, its mode."""
    posterior = stages["encoder"].run(restored=restored)
    hint = posterior["mean"]
    if CONDITION in stages:
        hint = stages[CONDITION].run(restored=restored)["hint"]
    for latent in (*posterior.values(), hint):
        check_output("encoder", latent, noise.shape)
    observe("hint", hint)
    x_lr = posterior["mean"] + posterior["std"] * noise
    observe("x_lr", x_lr)
    return x_lr, hint


def _ignore(*_: Any) -> None:
    """No-op callback."""


def _stacked(noise: Sequence[Array], steps: int, shape: tuple[int, ...]) -> Array:
    arrays = [np.asarray(array, np.float32) for array in noise]
    wrong = [array.shape for array in arrays if array.shape != shape]
    if len(arrays) != steps + 2 or wrong:
        got = f"one of shape {wrong[0]}" if wrong else f"{len(arrays)}"
        raise ValueError(f"noise must be {steps + 2} arrays of shape {shape}, got {got}")
    return np.stack(arrays)
