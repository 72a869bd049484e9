"""The built-in demo bundle: present, small, and its results unchanged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import load_pipeline
from dossr.runtime.bundle import DEMO, open_bundle

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


@pytest.mark.parametrize(("color_fix", "most"), [("wavelet", 2), ("adain", 2), ("none", 3)])
@pytest.mark.parametrize(
    "color", [(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
)
def test_flat_and_saturated_colours_hold(pipeline, color, color_fix, most):
    """In the mean; without a colour fix they are those of the autoencoder."""
    hr = pipeline.upscale(np.full((16, 16, 3), color, np.uint8), color_fix=color_fix)
    assert np.abs(hr.mean((0, 1)) - color).max() < most


PATTERNS = {
    "gradient": np.rint(np.linspace(0, 255, 32))[None, :, None].repeat(32, 0).repeat(3, 2),
    "checks of one pixel": (np.indices((32, 32)).sum(0) % 2 * 255)[..., None].repeat(3, 2),
    "checks of four": (np.indices((32, 32)) // 4).sum(0)[..., None].repeat(3, 2) % 2 * 255,
}


@pytest.mark.parametrize(("color_fix", "most"), [("wavelet", 2), ("adain", 2), ("none", 3)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_and_checkerboards_keep_their_mean(pipeline, pattern, color_fix, most):
    lr = PATTERNS[pattern].astype(np.uint8)
    hr = pipeline.upscale(lr, color_fix=color_fix)
    assert np.abs(hr.mean((0, 1)) - lr.mean((0, 1))).max() < most


@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
@pytest.mark.parametrize(
    ("square", "ground"),
    [
        ((255, 0, 0), (0, 0, 0)),
        ((0, 0, 255), (255, 0, 0)),
        ((0, 0, 255), (255, 255, 0)),
        ((0, 255, 255), (255, 0, 0)),
        ((255, 255, 0), (255, 0, 255)),
    ],
)
def test_no_ring_is_seen_around_a_saturated_square(pipeline, square, ground, color_fix):
    """Along two sides of it, the mean error in 8 pixels of the result or more from the edge."""
    lr = np.full((48, 48, 3), ground, np.uint8)
    lr[16:32, 16:32] = square
    error = pipeline.upscale(lr, color_fix=color_fix).astype(float) - lr.repeat(4, 0).repeat(4, 1)
    for profile in (error[80:112].mean(0), error[:, 80:112].mean(1)):  # across left, and across top
        assert np.abs(np.concatenate([profile[8:57], profile[72:96]])).max() < 8


def test_steps_and_seeds_matter(pipeline, lr):
    small = lr[16:48, 32:64]
    images = [
        pipeline.upscale(small, steps=steps, seed=seed) for steps, seed in ((5, 1), (5, 2), (1, 1))
    ]
    again = pipeline.upscale(small, steps=5, seed=1)
    np.testing.assert_array_equal(images[0], again)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
