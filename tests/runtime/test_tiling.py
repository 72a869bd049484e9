"""Tiling: grids, windows, and the difference between tiled and untiled results."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dossr.runtime import load_pipeline
from dossr.runtime.engines.device import Host
from dossr.runtime.options import Tiling
from dossr.runtime.tensors import TensorSpec
from dossr.runtime.tiling import Axis, Grid, TiledEngine, cut, network_grid

PHOTO = Path(__file__).parents[1] / "images" / "astronaut.png"


@st.composite
def axes(draw):
    """A padded side and valid tiles for a size multiple."""
    multiple = draw(st.sampled_from([4, 8, 16]))
    size = multiple * draw(st.integers(1, 40))
    length = multiple * draw(st.integers(4, 12))
    overlap = multiple * draw(st.integers(0, length // multiple - 1))
    return size, length, overlap, multiple


@given(axes())
def test_tiles_cover_a_side_from_end_to_end(setting):
    size, length, overlap, multiple = setting
    axis = cut(*setting)
    if size <= length:
        assert axis == Axis(size, size, (0,))
        return
    assert axis.length == length
    assert axis.starts[0] == 0
    assert axis.starts[-1] + length == size
    assert all(start % multiple == 0 for start in axis.starts)
    assert all(0 < b - a <= length - overlap for a, b in pairwise(axis.starts))
    assert (len(axis.starts) - 2) * (length - overlap) + length < size  # one less would not do


@given(axes(), st.sampled_from([1, 2, 4]))
def test_window_weights_sum_to_one(setting, scale):
    axis = cut(*setting).scaled(setting[0] * scale)
    windows = axis.windows()
    assert windows.dtype == np.float32
    assert windows.min() > 0
    total, covering = np.zeros(axis.size), np.zeros(axis.size)
    for start, window in zip(axis.starts, windows, strict=True):
        total[start : start + axis.length] += window
        covering[start : start + axis.length] += 1
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(total[covering == 1], 1.0)


@given(axes())
def test_windows_are_symmetric(setting):
    """For evenly spread tiles, the windows of a mirrored side are mirrored."""
    axis = cut(*setting)
    mirrored = tuple(axis.size - axis.length - start for start in reversed(axis.starts))
    if mirrored == axis.starts:
        np.testing.assert_allclose(axis.windows(), axis.windows()[::-1, ::-1], rtol=1e-6)


class Network:
    """A network that calls a function and records the shapes of its inputs."""

    def __init__(self, function, name="y"):
        self.inputs = {"x": TensorSpec("x", "float32", ("b", 3, "h", "w"))}
        self.outputs = {name: TensorSpec(name, "float32", ("b", 3, "h", "w"))}
        self._function, self._name, self.shapes = function, name, []

    def run(self, **inputs):
        self.shapes.append({name: array.shape for name, array in inputs.items()})
        return {self._name: self._function(**inputs)}


def _tiled(network, grid, ticks=None, **settings):
    done = [] if ticks is None else ticks
    return TiledEngine(network, grid, Host(), done.append, **settings)


def _grid(height, width, tile=32, overlap=16):
    return Grid(cut(height, tile, overlap, 8), cut(width, tile, overlap, 8))


def _image(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("size", [(32, 32), (32, 80), (72, 104)])
def test_a_pointwise_network_gives_the_same_in_tiles(size, batch):
    """With smaller and larger outputs, inputs of different sizes, and inputs that are not images."""

    def function(x, half, time):
        assert time.shape == (len(x),)
        return (x + half.repeat(2, 2).repeat(2, 3)).repeat(4, 2).repeat(4, 3) * time[0]

    x, half = _image(1, 3, *size), _image(1, 3, size[0] // 2, size[1] // 2)
    inputs = {"x": x, "half": half, "time": np.float32([7])}
    found = _tiled(Network(function), _grid(*size), batch=batch).run(**inputs)["y"]
    np.testing.assert_allclose(found, function(**inputs), rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32


def test_a_network_sees_one_shape_and_every_tile_once():
    """An incomplete last batch is padded; the padding does not affect the result."""
    network, ticks = Network(lambda x: x), []
    x = _image(1, 3, 72, 104)
    found = _tiled(network, _grid(72, 104), ticks, batch=4).run(x=x)["y"]
    assert network.shapes == [{"x": (4, 3, 32, 32)}] * 6
    assert ticks == [4, 4, 4, 4, 4, 4]
    network, ticks = Network(lambda x: x), []
    again = _tiled(network, _grid(72, 104), ticks, batch=10).run(x=x)["y"]
    assert network.shapes == [{"x": (10, 3, 32, 32)}] * 3
    assert ticks == [10, 10, 4]
    np.testing.assert_array_equal(found, again)


def test_a_batch_is_never_larger_than_all_tiles():
    network = Network(lambda x: x)
    _tiled(network, _grid(32, 80), batch=100).run(x=_image(1, 3, 32, 80))
    assert network.shapes == [{"x": (4, 3, 32, 32)}]


def test_an_image_that_fits_one_tile_is_passed_on_as_it_is():
    x, network = _image(1, 3, 24, 32), Network(lambda x: x)
    assert _tiled(network, _grid(24, 32), batch=4).run(x=x)["y"] is x


def test_a_receptive_field_within_the_halo_leaves_no_seam():
    """Zero padding affects 4 pixels at tile borders, as in convolutions. With a halo, the window reduces
    the error to less than a quarter of an 8-bit level."""

    def function(x):
        padded = np.pad(x, [(0, 0), (0, 0), (4, 4), (4, 4)])
        rows = sum(padded[:, :, k : k + x.shape[2]] for k in range(9))
        return sum(rows[..., k : k + x.shape[3]] for k in range(9)) / np.float32(81)

    x = 0.5 + 0.1 * _image(1, 3, 192, 256)
    errors = []
    for grid in (network_grid(Tiling(64), 192, 256, 16), _grid(192, 256, tile=64, overlap=0)):
        found = _tiled(Network(function), grid).run(x=x)["y"]
        errors.append(np.abs(found - function(x)).max())
    assert errors[0] < 0.25 / 255
    assert errors[1] > 0.1


def test_the_pipeline_gives_the_same_image_in_tiles(toy_bundle):
    """The toy networks have a receptive field of one pixel, which leaves noise, positions, blending."""
    pipeline = load_pipeline(toy_bundle)
    photo = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    whole = pipeline.upscale(photo, tile=0).astype(int)
    for settings in ({"tile": 64}, {"tile": 64, "overlap": 16, "batch": 3}, {"tile": 80}):
        assert np.abs(pipeline.upscale(photo, **settings) - whole).max() <= 1


def test_a_tile_that_holds_the_image_changes_no_bit(toy_bundle):
    pipeline = load_pipeline(toy_bundle)
    photo = np.random.default_rng(0).integers(0, 256, (100, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pipeline.upscale(photo), pipeline.upscale(photo, tile=0))


def test_the_demo_model_gives_nearly_the_same_image_in_tiles():
    """Norms and attention see one tile instead of the image; the PSNR stays above 40 dB."""
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))[:64, :96]
    pipeline = load_pipeline()
    whole, tiled = (pipeline.upscale(photo, steps=2, tile=tile).astype(float) for tile in (0, 32))
    assert 0 < np.mean((tiled - whole) ** 2) < 255**2 / 10**4


@pytest.mark.parametrize("settings", [{"tile": 0}, {"tile": 64}, {"tile": 64, "batch": 3}])
def test_progress_counts_every_tile_of_every_network(toy_bundle, settings):
    seen = []
    photo = np.zeros((96, 64, 3), np.uint8)
    load_pipeline(toy_bundle).upscale(
        photo, steps=3, progress=lambda done, total: seen.append((done, total)), **settings
    )
    tiles = 1 if settings["tile"] == 0 else 2
    total = tiles * (3 + 3)  # restorer, encoder, decoder; denoiser
    assert [of for _, of in seen] == [total] * len(seen)
    dones = [done for done, _ in seen]
    assert dones == sorted(set(dones))
    assert dones[0] == 0
    assert dones[-1] == total


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 48}, "tile must be 0 or a multiple of 16 from 64 on, got 48"),
        ({"tile": 100}, "tile must be 0 or a multiple of 16 from 64 on, got 100"),
        ({"tile": -64}, "tile must be 0 or a multiple of 16 from 64 on, got -64"),
        ({"overlap": 24}, "overlap must be a multiple of 16 below the tile's 128, got 24"),
        ({"overlap": 128}, "overlap must be a multiple of 16 below the tile's 128, got 128"),
        ({"overlap": -16}, "overlap must be a multiple of 16 below the tile's 128, got -16"),
        ({"tile": 0, "overlap": 16}, "overlap must be a multiple of 16 below the tile's 0, got 16"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(toy_bundle, settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        load_pipeline(toy_bundle).upscale(np.zeros((16, 16, 3), np.uint8), **settings)
