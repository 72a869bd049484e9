"""From an image to an image four times as large."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..solvers import Schedule, StepCoefficients, dos_sde_coefficients, released_schedule
from .bundle import CONDITION, DEMO, Manifest, StageRecord, open_bundle
from .engines.device import Device, Host, load_device
from .engines.engine import Engine, check_output
from .engines.lazy import EngineSlot, LazyEngine
from .engines.tensorrt.options import BuildOptions
from .errors import BundleError, EngineError
from .images.color import COLOR_FIXES, ColorFix
from .images.padding import pad_to_multiple
from .sampling import Observe, draw_noise, sample
from .tensors import SCALE, Array, Image
from .tiling import TILE, TiledEngine, Tiling

Progress = Callable[[int, int], None]
"""Told how many runs of a network are done (on a GPU: queued), and of how many; a tile is a run.

At first 0, when everything that the networks need is there."""


def load_pipeline(
    bundle: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    *,
    low_memory: bool = False,
    build: BuildOptions | None = None,
) -> "Pipeline":
    """Open a bundle for upscaling; without one, the small demo model that is built in.

    ``low_memory`` holds one network at a time, and loads each anew for every image. ``build``:
    how TensorRT builds engines, for that device only.

    Checks the manifest and the SHA-256 of every file first. Raises BundleError where they do not
    fit, ValueError for an unknown device and EngineError where a network cannot be opened.
    """
    opened = open_bundle(DEMO if bundle is None else Path(bundle))
    place = load_device(device, build)
    slot = EngineSlot()
    stages: dict[str, Engine] = {}
    for name, record in opened.manifest.stages.items():
        open_stage = partial(_open_stage, place, opened.path(name), record)
        if low_memory:
            inputs, outputs = (
                {s.name: s for s in specs} for specs in (record.inputs, record.outputs)
            )
            stages[name] = LazyEngine(slot, open_stage, inputs, outputs)
        else:
            stages[name] = open_stage()
    return Pipeline(stages, opened.manifest, place)


def _open_stage(place: Device, path: Path, record: StageRecord) -> Engine:
    engine = place.open(path)
    signature = (*engine.inputs.values(), *engine.outputs.values())
    if signature != (*record.inputs, *record.outputs):
        raise BundleError(
            f"{path} has not the inputs and outputs that the manifest says; "
            "export the checkpoint again"
        )
    return engine


class Pipeline:
    """The stages of one bundle on one device, the CPU unless told. Serves one thread."""

    def __init__(
        self, stages: Mapping[str, Engine], manifest: Manifest, device: Device | None = None
    ) -> None:
        self.manifest = manifest
        self.device = device or Host()
        self._stages = stages

    def upscale(
        self,
        lr: Image,
        *,
        steps: int = 5,
        order: int = 3,
        seed: int = 42,
        color_fix: str = "wavelet",
        tile: int = TILE,
        overlap: int | None = None,
        batch: int = 1,
        schedule: Schedule | None = None,
        noise: Sequence[Array] | None = None,
        observe: Observe | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """The image four times as large: uint8 (h, w, 3) -> uint8 (4h, 4w, 3), sRGB.

        ``steps`` (1 to 499) network evaluations with the solver of ``order`` 1, 2 or 3. The noise
        is made of ``seed`` (0 or more), or given: ``steps + 2`` float32 arrays of shape
        (1, latent channels, height, width), in the order posterior, start, one per step; height and
        width are those of the latent of the padded image (see ``latent_shape``). ``schedule``
        takes the place of the released one; it must have as many steps.

        An image with a side above ``tile`` LR pixels is cut into tiles of that size, each network
        runs on one after the other, and memory grows with the image's area, not its square. The
        denoiser's tiles overlap by ``overlap`` LR pixels, half a tile unless told, and their
        predictions are blended at every step (Mixture of Diffusers, Barbero Jimenez 2023); it gets
        ``batch`` tiles at once. ``tile`` and ``overlap`` are multiples of the manifest's size multiple;
        with ``tile`` 0 nothing is cut. The noise is that of the whole image, tiles or not.

        ``observe(name, array)`` sees every intermediate, float32: of the padded image
        ``restored``, ``hint``, ``x_lr``, per step ``x``, ``eps``, ``x0``, then ``latent`` and
        ``decoded`` (nominally in [0, 1]); at last ``image``, (1, 3, 4h, 4w) after the colour fix
        and the crop, in [0, 1]. The arrays are those of the device: on a GPU they are CuPy's, and
        nothing is copied for an observer. ``progress(done, of)`` is called before
        the first run of a network and after each.

        Raises ValueError for a wrong argument and EngineError where a network fails.
        """
        _check_image(lr)
        if color_fix not in COLOR_FIXES:
            raise ValueError(f"color_fix must be {', '.join(COLOR_FIXES)}, got '{color_fix}'")
        schedule = schedule or released_schedule(steps, self.manifest.schedule)
        if schedule.steps != steps:
            raise ValueError(f"the schedule must have {steps} steps, got {schedule.steps}")
        coefficients = dos_sde_coefficients(schedule, order)
        tiling = Tiling(tile, overlap, batch)
        tiling.check(self.manifest.size_multiple)
        shape = self.latent_shape(lr.shape[0], lr.shape[1])
        drawn = draw_noise(seed, steps, shape) if noise is None else _checked(noise, steps, shape)
        with self.device.active():
            return self._upscale(
                lr, schedule, coefficients, drawn, COLOR_FIXES[color_fix], tiling,
                observe or _ignore, progress or _ignore,
            )  # fmt: skip

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The shape of each noise array for an LR image of this size."""
        multiple, factor = self.manifest.size_multiple, self.manifest.vae_factor
        rows, columns = (
            -(-side // multiple) * multiple * SCALE // factor for side in (height, width)
        )
        return 1, self.manifest.latent_channels, rows, columns

    def _tiled(
        self, height: int, width: int, tiling: Tiling, steps: int, progress: Progress
    ) -> dict[str, Engine]:
        """The stages for one padded image of this size, each with the tiles that it is run on.

        Tells ``progress`` of all runs to come.
        """
        size = height, width, self.manifest.size_multiple
        grids = {name: tiling.for_others(*size) for name in self._stages}
        grids["denoiser"] = tiling.for_denoiser(*size)
        total = sum(map(len, grids.values())) + (steps - 1) * len(grids["denoiser"])
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

    def _upscale(
        self,
        lr: Image,
        schedule: Schedule,
        coefficients: Sequence[StepCoefficients],
        drawn: Array,
        color_fix: ColorFix,
        tiling: Tiling,
        observe: Observe,
        progress: Progress,
    ) -> Image:
        """What ``upscale`` promises: the image and the noise go up once, the result comes down."""
        noise = self.device.upload(drawn)
        image = self.device.upload(lr).astype(np.float32).transpose(2, 0, 1)[None]
        image = pad_to_multiple(image / np.float32(255), self.manifest.size_multiple)
        height, width = image.shape[2], image.shape[3]
        stages = self._tiled(height, width, tiling, len(coefficients), progress)
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
        fixed = color_fix(decoded, restored)
        if not self.device.download(np.all(np.isfinite(fixed), axis=(1, 2, 3))).all():
            raise EngineError(
                "the networks gave numbers that are not finite; export the checkpoint without --fp16"
            )
        hr = np.clip(fixed[:, :, : lr.shape[0] * SCALE, : lr.shape[1] * SCALE], 0.0, 1.0)
        observe("image", hr)
        pixels = np.rint(hr[0] * 255.0).astype(np.uint8).transpose(1, 2, 0).copy()
        return self.device.download(pixels)


def _encode(
    stages: Mapping[str, Engine], restored: Array, noise: Array, observe: Observe
) -> tuple[Array, Array]:
    """x_lr, a sample of the posterior, and the ControlNet's hint, its mode."""
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


def _ignore(*seen: Any) -> None:
    """Who watches a run that nobody watches."""


def _check_image(lr: Image) -> None:
    if lr.dtype != np.uint8 or lr.ndim != 3 or lr.shape[2] != 3 or lr.size == 0:
        raise ValueError(f"lr must be uint8 (height, width, 3), got {lr.dtype} {lr.shape}")


def _checked(noise: Sequence[Array], steps: int, shape: tuple[int, ...]) -> Array:
    arrays = [np.asarray(array, np.float32) for array in noise]
    wrong = [array.shape for array in arrays if array.shape != shape]
    if len(arrays) != steps + 2 or wrong:
        got = f"one of shape {wrong[0]}" if wrong else f"{len(arrays)}"
        raise ValueError(f"noise must be {steps + 2} arrays of shape {shape}, got {got}")
    return np.stack(arrays)
