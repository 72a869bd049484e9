"""Large images in tiles: a network runs on one after the other, and a window blends what it gives.

Sizes are in pixels of the padded LR image; larger and smaller arrays are cut in proportion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .engines.device import Device
from .engines.engine import Engine
from .tensors import Array

TILE = 128
"""Side of a tile unless told: the size of image that the released model was trained for."""

_LEAST = 4  # size multiples in a tile, where it is smaller than TILE
_IMAGE_AXES = 4  # axes of an array that is cut
_DEVIATION = 0.1  # of the window, in tiles; that of StableSR and of Mixture of Diffusers


@dataclass(frozen=True)
class Tiling:
    """How large images are cut; one that fits a single tile is left whole."""

    tile: int = TILE
    """Side of a tile in LR pixels; 0: nothing is cut."""

    overlap: int | None = None
    """Of neighbouring tiles of the denoiser, in LR pixels; None: half a tile."""

    batch: int = 1
    """Tiles in one call of the denoiser."""

    def check(self, multiple: int) -> None:
        """Raise ValueError where this does not fit a bundle of this size multiple."""
        least = min(_LEAST * multiple, TILE)
        if self.tile and (self.tile < least or self.tile % multiple):
            raise ValueError(
                f"tile must be 0 or a multiple of {multiple} from {least} on, got {self.tile}"
            )
        overlap = self.overlap or 0
        if overlap % multiple or not 0 <= overlap < max(self.tile, 1):
            raise ValueError(
                f"overlap must be a multiple of {multiple} below the tile's {self.tile}, got {overlap}"
            )
        if self.batch < 1:
            raise ValueError(f"batch must be 1 or more, got {self.batch}")

    def for_denoiser(self, height: int, width: int, multiple: int) -> "Grid":
        """The tiles of a padded image: each has its say in what its neighbours see."""
        half = self.tile // 2 // multiple * multiple
        return self._grid(height, width, multiple, half if self.overlap is None else self.overlap)

    def for_others(self, height: int, width: int, multiple: int) -> "Grid":
        """The tiles of the restorer and the VAE, which overlap by a quarter: half of that is a halo
        for either neighbour, and the window leaves nothing of what lies at its rim."""
        return self._grid(height, width, multiple, self.tile // 4 // multiple * multiple)

    def _grid(self, height: int, width: int, multiple: int, overlap: int) -> "Grid":
        rows, columns = (
            cut(size, self.tile or size, overlap, multiple) for size in (height, width)
        )
        return Grid(rows, columns)


@dataclass(frozen=True)
class Axis:
    """One side of an image, cut into pieces of one length."""

    size: int
    length: int
    starts: tuple[int, ...]

    def scaled(self, size: int) -> "Axis":
        """The same cuts of a side that is ``size`` long."""
        starts = tuple(start * size // self.size for start in self.starts)
        return Axis(size, self.length * size // self.size, starts)

    def windows(self) -> Array:
        """What each piece counts for in each place of it, float32 (pieces, length).

        A Gaussian about the middle of the piece, symmetric, divided by the sum over all pieces: in
        every place the pieces count for 1 together, and a piece that is alone there for 1.
        """
        places = np.arange(self.length) - (self.length - 1) / 2
        bell = np.exp(-0.5 * (places / (_DEVIATION * self.length)) ** 2)
        total = np.zeros(self.size)
        for start in self.starts:
            total[start : start + self.length] += bell
        shares = [bell / total[start : start + self.length] for start in self.starts]
        return np.stack(shares).astype(np.float32)


def cut(size: int, length: int, overlap: int, multiple: int) -> Axis:
    """The fewest pieces that overlap by ``overlap`` or more, evenly spread, at multiples."""
    if size <= length:
        return Axis(size, size, (0,))
    gaps = -((length - size) // (length - overlap))
    starts = (k * (size - length) // gaps // multiple * multiple for k in range(gaps + 1))
    return Axis(size, length, tuple(starts))


@dataclass(frozen=True)
class Grid:
    """An image in tiles of one shape, numbered row by row."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def scaled(self, height: int, width: int) -> "Grid":
        """The same tiles of an array of this size."""
        return Grid(self.rows.scaled(height), self.columns.scaled(width))

    def place(self, number: int) -> tuple[int, int]:
        """Row and column of a tile among the others."""
        return divmod(number, len(self.columns.starts))

    def slices(self, number: int) -> tuple[slice, slice]:
        """The rows and columns that a tile covers."""
        row, column = self.place(number)
        top, left = self.rows.starts[row], self.columns.starts[column]
        return slice(top, top + self.rows.length), slice(left, left + self.columns.length)


class TiledEngine:
    """An engine that takes and gives a whole image's arrays and runs on one tile after the other.

    Arrays are (1, channels, height, width), cut as the grid says; others, such as times, are the
    same for every tile. The engine sees ``batch`` tiles at once, always as many, so that its shapes
    stay the same. ``tick`` is told how many were done after each call.
    """

    def __init__(
        self,
        engine: Engine,
        grid: Grid,
        device: Device,
        tick: Callable[[int], None],
        batch: int = 1,
    ) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._engine, self._grid, self._device, self._tick = engine, grid, device, tick
        self._batch = min(batch, len(grid))
        self._blends: dict[str, _Blend] = {}

    def run(self, **inputs: Array) -> dict[str, Array]:
        if len(self._grid) == 1:
            found = self._engine.run(**inputs)
            self._tick(1)
            return found
        outputs: dict[str, Array] = {}
        tiles = range(len(self._grid))
        for first in tiles[:: self._batch]:
            new = tiles[first : first + self._batch]
            numbers = [*new, *[new[-1]] * (self._batch - len(new))]
            found = self._engine.run(**{n: self._cut(a, numbers) for n, a in inputs.items()})
            for name, given in found.items():
                blend = self._blend(name, given)
                if first == 0:
                    outputs[name] = blend.canvas(given)
                for number, tile in zip(new, given, strict=False):
                    blend.add(outputs[name], number, tile)
            self._tick(len(new))
        return outputs

    def _cut(self, array: Array, numbers: Sequence[int]) -> Array:
        """The tiles of these numbers, one behind the other."""
        if array.ndim != _IMAGE_AXES:
            return np.concatenate([array] * len(numbers))
        grid = self._grid.scaled(*array.shape[2:])
        return np.concatenate([array[(..., *grid.slices(number))] for number in numbers])

    def _blend(self, name: str, tiles: Array) -> "_Blend":
        """How an output's tiles are put together; the same for every run."""
        if name not in self._blends:
            rows, columns = self._grid.rows, self._grid.columns
            up, down = tiles.shape[2], rows.length
            grid = self._grid.scaled(rows.size * up // down, columns.size * up // down)
            self._blends[name] = _Blend(grid, self._device)
        return self._blends[name]


class _Blend:
    """Tiles of one size that become an image."""

    def __init__(self, grid: Grid, device: Device) -> None:
        self._grid = grid
        self._rows, self._columns = (
            device.upload(axis.windows()) for axis in (grid.rows, grid.columns)
        )

    def canvas(self, tiles: Array) -> Array:
        """An empty image of the tiles' kind."""
        shape = 1, tiles.shape[1], self._grid.rows.size, self._grid.columns.size
        return np.zeros(shape, np.float32, like=tiles)

    def add(self, canvas: Array, number: int, tile: Array) -> None:
        """Put a tile (channels, height, width) where it belongs."""
        row, column = self._grid.place(number)
        window = self._rows[row][:, None] * self._columns[column]
        canvas[(0, slice(None), *self._grid.slices(number))] += tile * window
