import re

import numpy as np
from click.testing import CliRunner

from dossr.bench.overhead import instant_pipeline, overhead


def test_instant_networks_make_an_image_of_the_right_size():
    hr = instant_pipeline(8).upscale(np.zeros((16, 16, 3), np.uint8), steps=2)
    assert (hr.dtype, hr.shape) == (np.uint8, (64, 64, 3))


def test_every_part_is_timed_and_the_sampling_rows_add_up():
    result = CliRunner().invoke(overhead, ["--latent", "8", "--repeat", "3"])
    assert result.exit_code == 0
    rows = re.findall(r"^(\D.*?|5 solver steps) {2,}([\d.]+)\s", result.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == [
        "schedule and coefficients", "noise", "5 solver steps", "colour fix, wavelet",
        "whole image, no colour fix", "whole image, wavelet", "total of sampling (rows 1 to 3)",
    ]  # fmt: skip
    times = [float(value) for _, value in rows]
    assert min(times) > 0
    np.testing.assert_allclose(times[-1], sum(times[:3]), atol=2e-3)


def test_a_latent_larger_than_a_tile_is_timed_whole():
    result = CliRunner().invoke(overhead, ["--latent", "72", "--steps", "1", "--repeat", "1"])
    assert result.exit_code == 0
    assert result.stdout.startswith("latent 72 x 72, 1 steps")


def test_a_latent_that_the_networks_cannot_take_is_refused():
    result = CliRunner().invoke(overhead, ["--latent", "12"])
    assert result.exit_code == 2
    assert "--latent must be a multiple of 8, got 12" in result.output
