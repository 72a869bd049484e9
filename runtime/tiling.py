"""Tiling: cut large images into tiles, run a network on each, blend the results.

Sizes are in pixels of the padded LR image; larger and smaller arrays are cut in proportion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .engines.device import Device
from .engines.engine import Engine
from .options import Tiling
from .tensors import Array

_IMAGE_AXES = 4  # arrays with as many axes are cut
_DEVIATION = 0.1  # of the window, in tiles, as in StableSR and Mixture of Diffusers


def denoiser_grid(tiling: Tiling, height: int, width: int, multiple: int) -> "Grid":
    """Return the denoiser's tiles of a padded image, with the overlap of ``tiling``."""
    half = tiling.tile // 2 // multiple * multiple
    overlap = half if tiling.overlap is None else tiling.overlap
    return _grid(tiling, height, width, multiple, overlap)


def network_grid(tiling: Tiling, height: int, width: int, multiple: int) -> "Grid":
    """Return the tiles of the restorer or the VAE, which overlap by a quarter.

    Convolutions zero-pad at tile borders. Half of the overlap is a halo for either neighbour, and
    the blending window suppresses its rim.
    """
    return _grid(tiling, height, width, multiple, tiling.tile // 4 // multiple * multiple)


def _grid(tiling: Tiling, height: int, width: int, multiple: int, overlap: int) -> "Grid":
    rows, columns = (cut(size, tiling.tile or size, overlap, multiple) for size in (height, width))
    return Grid(rows, columns)


@dataclass(frozen=True)
class Axis:
    """One side of an image, cut into pieces of equal length."""

    size: int
    length: int
    starts: tuple[int, ...]

    def scaled(self, size: int) -> "Axis":
        """Return the same cuts of a side of length ``size``."""
        starts = tuple(start * size // self.size for start in self.starts)
        return Axis(size, self.length * size // self.size, starts)

    def windows(self) -> Array:
        """Return the blending weights of each piece, float32 (pieces, length).

        A symmetric Gaussian around the centre of the piece, divided by the sum over all pieces. The
        weights sum to 1 at every position.
        """
        positions = np.arange(self.length) - (self.length - 1) / 2
        bell = np.exp(-0.5 * (positions / (_DEVIATION * self.length)) ** 2)
        total = np.zeros(self.size)
        for start in self.starts:
            total[start : start + self.length] += bell
        shares = [bell / total[start : start + self.length] for start in self.starts]
        return np.stack(shares).astype(np.float32)


def cut(size: int, length: int, overlap: int, multiple: int) -> Axis:
    """Return the fewest pieces that overlap by ``overlap`` or more, evenly spread, at multiples."""
    if size <= length:
        return Axis(size, size, (0,))
    gaps = -((length - size) // (length - overlap))
    starts = (k * (size - length) // gaps // multiple * multiple for k in range(gaps + 1))
    return Axis(size, length, tuple(starts))


@dataclass(frozen=True)
class Grid:
    """An image cut into tiles of one shape, numbered row by row."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def scaled(self, height: int, width: int) -> "Grid":
        """Return the same tiles of an array of this size."""
        return Grid(self.rows.scaled(height), self.columns.scaled(width))

    def place(self, number: int) -> tuple[int, int]:
        """Return the row and column of a tile in the grid."""
        return divmod(number, len(self.columns.starts))

    def slices(self, number: int) -> tuple[slice, slice]:
        """Return the rows and columns that a tile covers."""
        row, column = self.place(number)
        top, left = self.rows.starts[row], self.columns.starts[column]
        return slice(top, top + self.rows.length), slice(left, left + self.columns.length)


class TiledEngine:
    """An engine that accepts and returns arrays of whole images and runs on tiles.

    Arrays (images, channels, height, width) are cut by the grid; an array of one image serves all, and
    others, such as times, are the same for every tile. The engine always receives ``batch`` tiles at
    once, or all of ``images`` images if those are fewer, so that its shapes stay the same. ``tick`` is called with the number of tiles
    done after each call.
    """

    def __init__(
        self,
        engine: Engine,
        grid: Grid,
        device: Device,
        tick: Callable[[int], None],
        batch: int = 1,
        images: int = 1,
    ) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine, self._grid, self._device, self._tick = engine, grid, device, tick
        self._batch = min(batch, images * len(grid))
        self._blends: dict[str, _Blend] = {}

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the engine on all tiles of all images and blend its outputs."""
        images = max(array.shape[0] for array in inputs.values())
        tiles = range(images * len(self._grid))
        if len(tiles) == self._batch == images:
            found = self._engine.run(**{n: _repeated(a, images) for n, a in inputs.items()})
            self._tick(images)
            return found
        outputs: dict[str, Array] = {}
        for first in tiles[:: self._batch]:
            new = tiles[first : first + self._batch]
            numbers = [*new, *[new[-1]] * (self._batch - len(new))]
            found = self._engine.run(**{n: self._cut(a, numbers) for n, a in inputs.items()})
            for name, tiles_found in found.items():
                blend = self._blend(name, tiles_found)
                if first == 0:
                    outputs[name] = blend.canvas(tiles_found, images)
                for number, tile in zip(new, tiles_found, strict=False):
                    image, place = divmod(number, len(self._grid))
                    blend.add(outputs[name][image], place, tile)
            self._tick(len(new))
        return outputs

    def _cut(self, array: Array, numbers: Sequence[int]) -> Array:
        """Return the tiles with these numbers, counted through all images, as a batch."""
        if array.ndim != _IMAGE_AXES:
            return np.concatenate([array[:1]] * len(numbers))
        grid, tiles = self._grid.scaled(*array.shape[2:]), []
        for number in numbers:
            image, place = divmod(number, len(grid))
            image %= array.shape[0]
            tiles.append(array[(slice(image, image + 1), slice(None), *grid.slices(place))])
        return np.concatenate(tiles)

    def _blend(self, name: str, tiles: Array) -> "_Blend":
        """Return the blend of an output, which is the same for every run."""
        if name not in self._blends:
            rows, columns = self._grid.rows, self._grid.columns
            up, down = tiles.shape[2], rows.length
            grid = self._grid.scaled(rows.size * up // down, columns.size * up // down)
            self._blends[name] = _Blend(grid, self._device)
        return self._blends[name]


class _Blend:
    """Combines tiles of one size into an image."""

    def __init__(self, grid: Grid, device: Device) -> None:
        self._grid = grid
        self._rows, self._columns = (
            device.upload(axis.windows()) for axis in (grid.rows, grid.columns)
        )

    def canvas(self, tiles: Array, images: int) -> Array:
        """Return empty images in the tiles' array library."""
        shape = images, tiles.shape[1], self._grid.rows.size, self._grid.columns.size
        return np.zeros_like(tiles, np.float32, shape=shape)

    def add(self, image: Array, number: int, tile: Array) -> None:
        """Add a weighted tile (channels, height, width) to an image at its position."""
        row, column = self._grid.place(number)
        window = self._rows[row][:, None] * self._columns[column]
        image[(slice(None), *self._grid.slices(number))] += tile * window


def _repeated(array: Array, images: int) -> Array:
    """Return an array of one image as that of all."""
    return array if array.shape[0] == images else np.concatenate([array] * images)
