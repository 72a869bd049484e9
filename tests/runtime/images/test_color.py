import numpy as np
import pytest

from dossr.runtime.images.color import COLOR_FIXES, adain, wavelet


def _noise(seed, shape=(1, 3, 40, 56)):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def _direct_blur(image, radius):
    """The 3 x 3 kernel [1 2 1; 2 4 2; 1 2 1] / 16 with holes, edges repeated, spelled out."""
    padded = np.pad(image, [(0, 0), (0, 0), (radius, radius), (radius, radius)], mode="edge")
    height, width = image.shape[2:]
    total = np.zeros_like(image)
    for row, wy in enumerate((1, 2, 1)):
        for column, wx in enumerate((1, 2, 1)):
            y, x = row * radius, column * radius
            total += wy * wx / 16 * padded[:, :, y : y + height, x : x + width]
    return total


def test_wavelet_takes_the_high_part_of_one_and_the_low_part_of_the_other():
    """Against the decomposition written out: five levels, radius 1 to 16."""
    decoded, restored = _noise(0), _noise(1)
    high, low = np.zeros_like(decoded), restored
    rest = decoded
    for level in range(5):
        blurred = _direct_blur(rest, 2**level)
        high, rest = high + rest - blurred, blurred
        low = _direct_blur(low, 2**level)
    np.testing.assert_allclose(wavelet(decoded, restored), high + low, atol=2e-6)


def test_adain_gives_each_channel_the_mean_and_spread_of_the_guide():
    decoded, restored = _noise(0) * 0.5 + 0.1, _noise(1) * 0.3 + 0.4
    fixed = adain(decoded, restored)
    np.testing.assert_allclose(fixed.mean((2, 3)), restored.mean((2, 3)), atol=1e-6)
    np.testing.assert_allclose(fixed.std((2, 3)), restored.std((2, 3)), rtol=1e-3)


@pytest.mark.parametrize("name", COLOR_FIXES)
def test_an_image_is_its_own_guide(name):
    image = _noise(2)
    np.testing.assert_allclose(COLOR_FIXES[name](image, image), image, atol=1e-6)


@pytest.mark.parametrize("name", COLOR_FIXES)
def test_uniform_and_tiny_images_stay_finite_float32(name):
    for shape in ((1, 3, 4, 4), (1, 3, 64, 4)):
        fixed = COLOR_FIXES[name](np.full(shape, 0.5, np.float32), _noise(0, shape))
        assert fixed.dtype == np.float32
        assert np.isfinite(fixed).all()


@pytest.mark.parametrize("name", COLOR_FIXES)
def test_detail_blends_the_high_frequencies_alone(name):
    """1 changes nothing to the bit, 0 has the restored image's, and between it is a straight line."""
    decoded, restored = _noise(0), _noise(1) * 0.5
    fix = COLOR_FIXES[name]
    whole, least = fix(decoded, restored, 1.0), fix(decoded, restored, 0.0)
    np.testing.assert_array_equal(whole, fix(decoded.copy(), restored.copy()))
    if name == "wavelet":  # both bands are the restored image's
        np.testing.assert_allclose(least, restored, atol=1e-6)
    else:  # its own low band, the restored image's high bands
        low = _direct_low(whole)
        np.testing.assert_allclose(least, low + restored - _direct_low(restored), atol=2e-6)
    for detail in (0.2, 0.5, 0.9):
        between = detail * whole + (1 - detail) * least
        np.testing.assert_allclose(fix(decoded, restored, detail), between, atol=2e-6)


def _direct_low(image):
    for level in range(5):
        image = _direct_blur(image, 2**level)
    return image
