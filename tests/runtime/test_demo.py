"""The built-in demo bundle: present, small, and its results unchanged."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import load_pipeline
from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.images.color import COLOR_FIXES

PHOTOGRAPH = Path(__file__).parents[1] / "images" / "astronaut.png"
LIMIT = 16 * 2**20  # bytes


@pytest.fixture(scope="module")
def lr():
    return np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline()


def _error(a, b):
    """Mean squared difference of two uint8 images."""
    return np.mean((a.astype(float) - b.astype(float)) ** 2)


def test_it_is_small_and_verified():
    manifest = open_bundle(DEMO).manifest
    assert manifest.precision == "fp16"
    assert {row["stage"] for row in manifest.verification} == set(manifest.stages)
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= LIMIT


def test_its_image_is_the_recorded_one(pipeline, lr, golden):
    """tests/golden/demo_astronaut.png is this call's result on the machine that recorded it."""
    found = pipeline.upscale(lr[16:80, 32:96], steps=5, order=3, seed=42)
    recorded = np.asarray(Image.open(golden / "demo_astronaut.png"))
    assert _error(found, recorded) < 2  # 45 dB: other processors round differently


def test_it_keeps_the_image_and_its_colours(pipeline, lr):
    """Reduced again, the result is the input, up to the input's noise."""
    hr = pipeline.upscale(lr, steps=5, order=3, seed=42)
    reduced = np.asarray(Image.fromarray(hr).resize(lr.shape[1::-1], Image.Resampling.BOX))
    assert _error(reduced, lr) < 255**2 / 10**2.4  # 24 dB
    assert np.abs(reduced.mean((0, 1)) - lr.mean((0, 1))).max() < 3


COLORS = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}


@pytest.mark.parametrize("color_fix", COLOR_FIXES)
@pytest.mark.parametrize("color", [*COLORS.values(), (0, 220, 220), (250, 180, 200)])
def test_flat_colours_hold_in_the_mean(pipeline, color, color_fix):
    hr = pipeline.upscale(np.full((16, 16, 3), color, np.uint8), color_fix=color_fix)
    assert np.abs(hr.mean((0, 1)) - color).max() < 2


PATTERNS = {
    "gradient": np.rint(np.linspace(0, 255, 32))[None, :, None].repeat(32, 0).repeat(3, 2),
    "checks of one pixel": (np.indices((32, 32)).sum(0) % 2 * 255)[..., None].repeat(3, 2),
    "checks of four": (np.indices((32, 32)) // 4).sum(0)[..., None].repeat(3, 2) % 2 * 255,
}


@pytest.mark.parametrize("color_fix", COLOR_FIXES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_and_checkerboards_keep_their_mean(pipeline, pattern, color_fix):
    lr = PATTERNS[pattern].astype(np.uint8)
    hr = pipeline.upscale(lr, color_fix=color_fix)
    assert np.abs(hr.mean((0, 1)) - lr.mean((0, 1))).max() < 2


@pytest.mark.parametrize(("square", "ground"), list(permutations(COLORS, 2)))
def test_no_ring_is_seen_around_a_square(pipeline, square, ground):
    """Along two sides of it, the mean error in 8 pixels of the result or more from the edge."""
    lr = np.full((48, 48, 3), COLORS[ground], np.uint8)
    lr[16:32, 16:32] = COLORS[square]
    wanted, seen = lr.repeat(4, 0).repeat(4, 1).astype(float), {}
    hr = pipeline.upscale(lr, observe=lambda name, array: seen.setdefault(name, array.copy()))
    found = {
        name: 255
        * fix(seen["decoded"].copy(), seen["restored"], 1.0).clip(0, 1)[0].transpose(1, 2, 0)
        for name, fix in COLOR_FIXES.items()
    }
    assert np.abs(found["wavelet"] - hr).max() < 1
    for name, image in found.items():
        error = image - wanted
        for profile in (error[80:112].mean(0), error[:, 80:112].mean(1)):  # across left, and top
            assert np.abs(np.concatenate([profile[8:57], profile[72:96]])).max() < 8, name


def test_steps_and_seeds_matter(pipeline, lr):
    small = lr[16:48, 32:64]
    images = [
        pipeline.upscale(small, steps=steps, seed=seed) for steps, seed in ((5, 1), (5, 2), (1, 1))
    ]
    again = pipeline.upscale(small, steps=5, seed=1)
    np.testing.assert_array_equal(images[0], again)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
