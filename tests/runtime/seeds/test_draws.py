"""Several seeds of one image: the images of the single runs, with what they share computed once."""

import numpy as np
import pytest

from dossr.runtime import load_pipeline
from dossr.runtime.errors import OutOfMemoryError
from dossr.runtime.options import SamplingOptions, Tiling


def _image(height=40, width=72, dtype=np.uint8):
    return np.random.default_rng(7).integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)


def _quiet(line):
    pass


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def pipeline(toy_bundle, request):
    if request.param != "cpu":
        pytest.importorskip("openvino")
    return load_pipeline(toy_bundle, request.param, log=_quiet)


@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_draws_are_the_single_runs_to_the_byte(pipeline, tile, batch):
    lr, options = _image(70, 150, np.uint16), {"steps": 3, "tile": tile, "batch": batch}
    several = pipeline.upscale(lr, seed=5, seeds=4, **options)
    assert several.dtype == np.uint16
    assert several.shape == (4, 280, 600, 3)
    for number, image in enumerate(several):
        np.testing.assert_array_equal(image, pipeline.upscale(lr, seed=5 + number, **options))
    assert len({image.tobytes() for image in several}) == 4


def test_the_real_denoiser_gives_a_batch_the_bytes_of_single_calls():
    pipeline, lr = load_pipeline(), _image(32, 32)
    several = pipeline.upscale(lr, steps=1, seeds=3, batch=3)
    for number, image in enumerate(several):
        np.testing.assert_array_equal(image, pipeline.upscale(lr, steps=1, seed=42 + number))


def _counted(pipeline, **options):
    """The number of calls of each intermediate, and of network runs."""
    seen, progress = [], []
    pipeline.upscale(
        _image(),
        observe=lambda name, array: seen.append((name, array.shape[0])),
        progress=lambda done, total: progress.append((done, total)),
        **options,
    )
    return seen, progress


@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_shared_is_computed_once_and_progress_ends_at_the_total(pipeline, batch):
    seen, progress = _counted(pipeline, steps=2, seeds=3, batch=batch)
    names = [name for name, _ in seen]
    assert names.count("restored") == names.count("hint") == 1
    assert names.count("decoded") == names.count("image") == 3
    assert sum(draws for name, draws in seen if name == "eps") == 3 * 2
    assert progress[0] == (0, 2 + 3 * (2 + 1))
    assert progress[-1] == (2 + 3 * (2 + 1),) * 2
    assert progress == sorted(progress)


def test_networks_that_are_reloaded_are_loaded_once_for_all_draws(toy_bundle, monkeypatch):
    from dossr.runtime.engines.device import Host

    opened, real = [], Host.open
    monkeypatch.setattr(
        Host, "open", lambda self, bundle, name: opened.append(name) or real(self, bundle, name)
    )
    frugal = load_pipeline(toy_bundle, low_memory=True)
    lr = _image()
    several = frugal.upscale(lr, steps=2, seeds=5)
    assert opened == ["restorer", "encoder", "denoiser", "decoder"]
    np.testing.assert_array_equal(several, load_pipeline(toy_bundle).upscale(lr, steps=2, seeds=5))


def test_draws_come_one_by_one_for_any_seeds(pipeline):
    lr, options = _image(), SamplingOptions(steps=1)
    draws = pipeline.draws(lr, options, [9, 2])
    np.testing.assert_array_equal(next(draws), pipeline.upscale(lr, steps=1, seed=9))
    np.testing.assert_array_equal(next(draws), pipeline.upscale(lr, steps=1, seed=2))
    assert next(draws, None) is None


def test_a_batch_larger_than_all_draws_is_cut(toy_bundle):
    pipeline, lr = load_pipeline(toy_bundle), _image()
    tiling = Tiling(batch=1000)
    assert len(list(pipeline.draws(lr, SamplingOptions(steps=1, tiling=tiling), range(2)))) == 2


@pytest.mark.parametrize("seeds", [0, -1, 2.5, True, [1, 2]])
def test_seeds_must_be_a_number_of_draws(toy_bundle, seeds):
    with pytest.raises(ValueError, match="seeds must be the number of draws"):
        load_pipeline(toy_bundle).upscale(_image(), seeds=seeds)


def test_seeds_and_noise_exclude_each_other(toy_bundle):
    with pytest.raises(ValueError, match="give seeds or noise, not both"):
        load_pipeline(toy_bundle).upscale(_image(), seeds=2, noise=[])


def test_results_larger_than_the_memory_are_refused_before_any_network_runs(toy_bundle):
    seen = []
    with pytest.raises(OutOfMemoryError, match=r"1000000000 results of 288 x 160 need .* are free"):
        load_pipeline(toy_bundle).upscale(
            _image(), seeds=10**9, observe=lambda name, array: seen.append(name)
        )
    assert not seen
