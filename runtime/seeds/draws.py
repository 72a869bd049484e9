"""From an image to its draws: uploaded once, cut into tiles, sampled a few draws at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ...solvers import dos_sde_coefficients
from ..bundle import Manifest
from ..engines.engine import Engine
from ..engines.networks import Networks
from ..errors import EngineError
from ..images.arrays import quantize, to_unit
from ..images.padding import pad_to_multiple, padded_size
from ..images.sizes import Size
from ..memory import draws_that_fit
from ..options import SamplingOptions
from ..sampling import Observe, latent_shape
from ..tensors import SCALE, Array
from ..tiling import TiledEngine, denoiser_grid, network_grid
from .shared import SharedStages

OnProgress = Callable[[int, int], None]
"""Called with the number of network runs done (on a GPU: queued) and their total. A tile is a run.

The first call has 0 runs done and follows the check of all arguments."""

_RELOADED = 16  # draws that are sampled before they are decoded where each network is reloaded


def together(
    manifest: Manifest, options: SamplingOptions, size: Size, count: int, *, is_reloaded: bool
) -> int:
    """Return how many of ``count`` draws to sample together: as many as one call of the denoiser takes.

    More where networks are reloaded, so that each is loaded once for many draws; fewer where their noise
    does not fit into the free memory. ``size``: width and height of the LR image.
    """
    width, height = size
    padded = padded_size(height, width, manifest.size_multiple)
    tiles = len(denoiser_grid(options.tiling, *padded, manifest.size_multiple))
    wanted = _RELOADED if is_reloaded else options.tiling.batch // tiles
    return draws_that_fit(manifest, size, options.steps, max(1, min(wanted, count)))


class Draws:
    """The draws of one LR image (h, w, 3), as ``to_pixels`` returns it, with the same options."""

    def __init__(
        self,
        networks: Networks,
        lr: Array,
        options: SamplingOptions,
        observe: Observe,
        progress: OnProgress,
    ) -> None:
        self._networks, self._lr, self._options = networks, lr, options
        self._observe, self._progress = observe, progress
        self._schedule = options.sampled_schedule(networks.manifest.schedule)
        self._coefficients = dos_sde_coefficients(self._schedule, options.order)

    def images(self, drawn: Iterable[Array], count: int, dtype: np.dtype[Any]) -> Iterator[Array]:
        """Yield ``count`` results (4h, 4w, 3) of a dtype on the host, each when it is asked for.

        ``drawn``: noise (steps + 2, draws, channels, rows, columns) of some draws at a time. It is
        released before they are decoded, and their latents before the next noise is asked for.
        """
        device, shared = self._networks.device, None
        for noise in drawn:
            with device.active():
                shared = shared or self._shared(count, noise.shape[1])
                x = shared.sample(device.upload(noise), self._schedule, self._coefficients)
            del noise
            for number in range(x.shape[0]):
                with device.active():
                    result = self._finished(shared.decode(x[number : number + 1], self._options))
                    result = device.download(quantize(result, dtype).transpose(1, 2, 0).copy())
                yield result
            del x

    def _shared(self, count: int, part: int) -> SharedStages:
        """Upload the image, restore and encode it; ``part`` of ``count`` draws are sampled together."""
        networks = self._networks
        image = to_unit(networks.device.upload(self._lr)).transpose(2, 0, 1)[None]
        image = pad_to_multiple(image, networks.manifest.size_multiple)
        height, width = image.shape[2], image.shape[3]
        shapes = (
            (1, 3, height * SCALE, width * SCALE),
            latent_shape(networks.manifest, height, width),
        )
        stages = self._tiled(height, width, count, part)
        return SharedStages(stages, networks.device, image, shapes, self._observe)

    def _finished(self, fixed: Array) -> Array:
        """Return (3, 4h, 4w) in [0, 1], cropped. Raise EngineError for values that are not finite."""
        if not self._networks.device.download(np.all(np.isfinite(fixed), axis=(1, 2, 3))).all():
            is_lowered = {"bf16", "int8"} & set(self._networks.precision.values())
            raise EngineError(
                "the networks returned values that are not finite; "
                + (
                    "give --precision fp32"
                    if is_lowered
                    else "export the checkpoint without --fp16"
                )
            )
        height, width = (side * SCALE for side in self._lr.shape[:2])
        hr: Array = np.clip(fixed[:, :, :height, :width], 0.0, 1.0)
        self._observe("image", hr)
        return np.squeeze(hr, 0)

    def _tiled(self, height: int, width: int, count: int, part: int) -> dict[str, Engine]:
        """Return the stages with the tiles of one padded image; report the number of runs to come."""
        networks, tiling = self._networks, self._options.tiling
        size = (height, width, networks.manifest.size_multiple)
        grids = {name: network_grid(tiling, *size) for name in networks.stages}
        grids["denoiser"] = denoiser_grid(tiling, *size)
        runs = {"denoiser": self._options.steps * count, "decoder": count}
        total = sum(len(grid) * runs.get(name, 1) for name, grid in grids.items())
        calls = {"denoiser": (tiling.batch, part)}
        done = 0

        def tick(tiles: int) -> None:
            nonlocal done
            done += tiles
            self._progress(done, total)

        tick(0)
        return {
            name: TiledEngine(stage, grids[name], networks.device, tick, *calls.get(name, (1, 1)))
            for name, stage in networks.stages.items()
        }
