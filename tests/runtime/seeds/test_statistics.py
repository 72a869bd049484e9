"""Mean and spread of images, pixel by pixel, against NumPy; the scale of a spread image."""

import numpy as np
import pytest

from dossr.runtime.seeds.statistics import Statistics, spread_image, white_level


def _filled(images):
    statistics = Statistics(*images[0].shape[:2], images[0].dtype)
    for image in images:
        statistics.add(image)
    return statistics


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mean_and_spread_are_those_of_numpy(dtype):
    top = np.iinfo(dtype).max
    images = np.random.default_rng(0).integers(0, top, (7, 300, 20, 3), dtype, endpoint=True)
    statistics = _filled(images)
    np.testing.assert_array_equal(statistics.mean(), np.rint(images.mean(0)))
    assert statistics.mean().dtype == dtype
    expected = np.sqrt((images * (255.0 / top)).var(0).mean(-1))
    np.testing.assert_allclose(statistics.spread(), expected, rtol=1e-6)


@pytest.mark.parametrize("level", [0, 3, 255])
def test_the_spread_of_equal_draws_is_zero_and_their_mean_is_theirs(level):
    image = np.full((5, 4, 3), level, np.uint8)
    statistics = _filled([image] * 13)
    assert not statistics.spread().any()
    np.testing.assert_array_equal(statistics.mean(), image)
    assert white_level(statistics.spread()) == 1
    assert not spread_image(statistics.spread(), 1).any()


def test_sums_hold_as_many_bright_draws_as_a_run_may_have():
    from dossr.runtime.seeds.request import MOST_SEEDS

    for dtype in (np.uint8, np.uint16):
        statistics = _filled([np.full((1, 1, 3), np.iinfo(dtype).max, dtype)] * MOST_SEEDS)
        assert not statistics.spread().any()
        assert (statistics.mean() == np.iinfo(dtype).max).all()


@pytest.mark.parametrize(
    ("top", "white"), [(0.0, 1), (0.4, 1), (1.5, 2), (5.0, 5), (5.1, 10), (60.0, 100), (127.5, 200)]
)
def test_white_is_a_round_level_that_holds_the_spread(top, white):
    assert white_level(np.full((8, 8), top, np.float32)) == white


def test_a_few_bright_pixels_do_not_darken_the_rest():
    spread = np.full((100, 100), 4.0, np.float32)
    spread[0, :5] = 90.0
    assert white_level(spread) == 5
    shown = spread_image(spread, 5)
    assert shown[0, 0] == 255
    assert shown[9, 9] == round(4 / 5 * 255)
