"""Agreement: a PSNR of the reduced result, penalised by departures of colour and of edges."""

import numpy as np
import pytest

from dossr.runtime.seeds.agreement import agreement
from dossr.runtime.seeds.measures import open_measure

BEST = 10 * np.log10(255**2 * 12)


@pytest.fixture
def lr():
    down, right = np.mgrid[:24, :36] * 5
    return np.stack([60 + down, 40 + right, 30 + (down + right) // 2], 2).astype(np.uint8)


def _enlarged(lr):
    return np.kron(lr, np.ones((4, 4, 1), lr.dtype))


def test_a_result_whose_reduction_is_the_input_has_the_highest_agreement(lr):
    assert agreement(_enlarged(lr), lr) == pytest.approx(BEST)
    detail = np.tile([[[3], [-3]], [[-3], [3]]], (48, 72, 1))  # cancels in every 4 x 4 pixels
    assert agreement((_enlarged(lr) + detail).astype(np.uint8), lr) == pytest.approx(BEST)


def test_a_known_error_of_all_pixels(lr):
    """3 levels of grey more: no colour and no edge departs, so that only E_Y = 9 counts."""
    image = _enlarged(lr) + np.uint8(3)
    assert agreement(image, lr) == pytest.approx(10 * np.log10(255**2 / (9 + 1 / 12)))


def test_colour_departs_without_luma():
    lr = np.full((8, 8, 3), 100, np.uint8)
    image = _enlarged(lr).astype(float) + np.array([11.4, 0.0, -29.9]) * 0.5  # luma as before
    image = np.rint(image * 257).astype(np.uint16)
    red, blue = 5.7 * 0.713, -14.95 * 0.564
    expected = 10 * np.log10(255**2 / (red**2 + blue**2 + 1 / 12))
    assert agreement(image, lr) == pytest.approx(expected, abs=1e-3)


def test_edges_depart_beyond_the_difference_of_pixels(lr):
    """Of two results with the same squared error, the one with new edges agrees less."""
    shift = np.full(lr.shape, 4)
    stripes = shift * np.where(np.arange(36) // 2 % 2, 1, -1)[None, :, None]
    even, striped = (
        (_enlarged(lr).astype(int) + _enlarged(d)).astype(np.uint8) for d in (shift, stripes)
    )
    assert agreement(striped, lr) < agreement(even, lr) - 1


def test_more_noise_agrees_less(lr):
    noise = np.random.default_rng(0).normal(0, 1, (96, 144, 3))
    scores = [
        agreement(np.clip(np.rint(_enlarged(lr) + noise * size), 0, 255).astype(np.uint8), lr)
        for size in (0, 4, 16, 64)
    ]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


def test_mirrored_and_turned_together_nothing_changes(lr):
    image = np.random.default_rng(1).integers(0, 256, (96, 144, 3), np.uint8)
    score = agreement(image, lr)
    assert agreement(image[::-1], lr[::-1]) == pytest.approx(score, abs=1e-9)
    turned = image.transpose(1, 0, 2), lr.transpose(1, 0, 2)
    assert agreement(*turned) == pytest.approx(score, abs=1e-9)


def test_depth_does_not_matter(lr):
    image = np.random.default_rng(1).integers(0, 256, (96, 144, 3), np.uint8)
    deep = image.astype(np.uint16) * 257
    assert agreement(deep, lr) == pytest.approx(agreement(image, lr), abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (300, 1, 3)])
def test_images_of_any_size(shape):
    lr = np.full(shape, 7, np.uint8)
    assert agreement(_enlarged(lr), lr) == pytest.approx(BEST)


def test_a_result_must_be_four_times_as_large(lr):
    with pytest.raises(ValueError, match="must be four times as large"):
        agreement(lr, lr)


def test_the_measure_prefers_higher_agreement(lr):
    measure = open_measure("agreement")
    assert measure.score(_enlarged(lr), lr) == agreement(_enlarged(lr), lr)
    assert measure.is_better(31.0, 30.0)
    assert not measure.is_better(30.0, 30.0)
