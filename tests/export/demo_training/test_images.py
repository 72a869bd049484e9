"""Procedural images, their pool, and their degradation."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dossr.export.demo_training.degrade import Degradation
from dossr.export.demo_training.images import procedural_image, texture
from dossr.export.demo_training.plain_images import plain_image
from dossr.export.demo_training.pool import images, photographic, pieces, sharp_batch


def _nothing(_count):
    pass


def test_an_image_is_a_function_of_its_seed():
    first, again, other = (procedural_image(np.random.default_rng(s), 64) for s in (1, 1, 2))
    assert (first.dtype, first.shape) == (np.uint8, (64, 64, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_have_the_edges_of_photographs():
    """Gradients are heavy-tailed: mostly flat, with strong edges. Noise has a kurtosis of 3."""
    kurtosis = []
    for seed in range(12):
        grey = procedural_image(np.random.default_rng(seed), 128).mean(2)
        gradient = np.diff(grey, axis=1).ravel()
        kurtosis.append(np.mean(gradient**4) / np.mean(gradient**2) ** 2)
    assert np.median(kurtosis) > 8


def _elongation(pattern):
    """Return the ratio of the gradient's deviations across and along a pattern's structure."""
    gy, gx = (g.ravel() for g in np.gradient(pattern))
    low, high = np.linalg.eigvalsh(np.array([[gy @ gy, gx @ gy], [gx @ gy, gx @ gx]]))
    return np.sqrt(high / low)


def test_a_stretched_texture_has_a_direction():
    for seed in range(8):
        even, long = (texture(np.random.default_rng(seed), 128, 1.0, s) for s in (1.0, 8.0))
        assert _elongation(even) < 1.05
        assert _elongation(long) > 1.8


def test_the_pool_does_not_depend_on_the_processes_that_make_it(tmp_path, pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.pool._IMAGES_PER_PROCESS", 2)
    monkeypatch.setattr("dossr.export.demo_training.pool.os.cpu_count", lambda: 2)
    np.testing.assert_array_equal(images(tmp_path / "p.npy", 4, 0, _nothing), pool)


def test_the_pool_is_made_once_and_is_reproducible(tmp_path, pool):
    made = []
    first = images(tmp_path / "p.npy", 4, 0, made.append)
    again = images(tmp_path / "p.npy", 4, 0, made.append)
    assert len(made) == 4
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, pool)


def test_a_degraded_image_is_a_quarter_and_a_function_of_its_seed(pool):
    lr = Degradation()(pool[0], np.random.default_rng(3))
    assert (lr.dtype, lr.shape) == (np.uint8, (64, 64, 3))
    np.testing.assert_array_equal(lr, Degradation()(pool[0], np.random.default_rng(3)))
    with pytest.raises(ValueError, match="sides must be multiples of 4, got 30 x 32"):
        Degradation()(pool[0][:30, :32], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("mild", "strong"),
    [
        ({"noise": (1, 1)}, {"noise": (20, 20)}),
        ({"blur": (0.1, 0.1)}, {"blur": (4, 4)}),
        ({"jpeg": (95, 95)}, {"jpeg": (20, 20)}),
    ],
)
def test_stronger_degradations_change_the_image_more(pool, mild, strong):
    clean = Degradation(blur=(0, 0), noise=(0, 0), jpeg=(100, 100))

    def error(change):
        results = []
        for seed, image in enumerate(pool):
            lr = replace(clean, **change)(image, np.random.default_rng(seed)).astype(float)
            plain = clean(image, np.random.default_rng(seed))
            results.append(np.mean((lr - plain) ** 2))
        return np.mean(results)

    assert error(strong) > 2 * error(mild)


def test_a_clean_image_is_reduced_and_nothing_else(pool):
    lr = Degradation(clean=1.0)(pool[1], np.random.default_rng(0))
    sharp = Image.fromarray(pool[1])
    reduced = [np.asarray(sharp.resize((64, 64), kind)) for kind in Image.Resampling]
    assert any(np.array_equal(lr, each) for each in reduced)


def test_every_other_plain_image_is_on_the_grid_of_the_small_image():
    made = [plain_image(np.random.default_rng(seed), 64) for seed in range(40)]
    on_grid = [np.array_equal(image, image[::4, ::4].repeat(4, 0).repeat(4, 1)) for image in made]
    assert 10 < sum(on_grid) < 36  # half, and the flat ones of the others


def test_pieces_of_plain_images_may_be_exact_and_others_never_are(pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.pool.EXACT", 1.0)

    def exact(number):
        piece = pieces(pool, [number], np.random.default_rng(0), 256)[0]
        turned = [np.rot90(piece, turns) for turns in range(4)]
        turned += [each[:, ::-1] for each in turned]
        return any(np.array_equal(each, pool[number]) for each in turned)

    assert exact(0)
    assert not exact(1)


_NO_TEXTURE = (1e-6, 1e-6)  # draws the same numbers as a visible one


def _pieces(pool):
    """Return eight soft pieces of every image, from one seed."""
    random = np.random.default_rng(0)
    return np.stack([photographic(sharp, random, 64) for sharp in [*pool] * 8]).astype(float)


def _steepness(pieces):
    return np.abs(np.diff(pieces, axis=1)).mean()


def test_pieces_are_softer_and_flatter_than_the_images(pool, monkeypatch):
    """Measured without the texture, which has its own test."""
    monkeypatch.setattr("dossr.export.demo_training.pool.TEXTURE", _NO_TEXTURE)
    sharp = sharp_batch(pool, np.random.default_rng(0), 32, 64).astype(float)
    soft = _pieces(pool)
    assert soft.shape == sharp.shape
    assert soft.std((1, 2)).mean() < 0.85 * sharp.std((1, 2)).mean()
    assert _steepness(soft) < 0.6 * _steepness(sharp)


def test_a_texture_adds_fine_detail_and_leaves_the_contrast(pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.pool.TEXTURED", 1.0)
    textured = _pieces(pool)
    np.testing.assert_array_equal(textured, _pieces(pool))
    monkeypatch.setattr("dossr.export.demo_training.pool.TEXTURE", _NO_TEXTURE)
    plain = _pieces(pool)
    assert _steepness(textured) > 1.1 * _steepness(plain)
    assert textured.std((1, 2)).mean() < 1.1 * plain.std((1, 2)).mean()
