import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dossr.runtime import BundleError, EngineError, Pipeline, load_pipeline
from dossr.runtime.engines.device import Host
from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.options import STARTS
from dossr.runtime.sampling import draw_noise


@pytest.fixture(scope="module")
def pipeline(toy_bundle):
    return load_pipeline(toy_bundle)


def _photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_comes_out_four_times_as_large(pipeline, height, width):
    hr = pipeline.upscale(_photo(height, width), steps=1)
    assert (hr.dtype, hr.shape) == (np.uint8, (4 * height, 4 * width, 3))


def test_every_intermediate_is_observed_in_order(pipeline):
    seen = []
    hr = pipeline.upscale(_photo(20, 16), steps=3, observe=lambda n, a: seen.append((n, a)))
    names = ["restored", "hint", "x_lr", *["x", "eps", "x0"] * 3, "latent", "decoded", "image"]
    assert names == [name for name, _ in seen]
    arrays = dict(seen)
    assert arrays["restored"].shape == (1, 3, 128, 64)
    assert arrays["eps"].shape == pipeline.latent_shape(20, 16) == (1, 4, 16, 8)
    assert arrays["image"].shape == (1, 3, 80, 64)
    assert all(array.dtype == np.float32 for array in arrays.values())
    np.testing.assert_array_equal(hr, np.rint(arrays["image"][0].transpose(1, 2, 0) * 255))


def test_low_memory_is_the_same_image_with_one_network_at_a_time(pipeline, toy_bundle, monkeypatch):
    held, most, order = weakref.WeakSet(), [], []

    def opening(host, bundle, stage, original=Host.open):
        engine = original(host, bundle, stage)
        held.add(engine)
        most.append(len(held))
        order.append(stage)
        return engine

    monkeypatch.setattr(Host, "open", opening)
    sparing = load_pipeline(toy_bundle, low_memory=True)
    assert order == []
    photo = _photo(20, 16)
    for _ in range(2):
        np.testing.assert_array_equal(
            sparing.upscale(photo, steps=3), pipeline.upscale(photo, steps=3)
        )
    assert order == ["restorer", "encoder", "denoiser", "decoder"] * 2
    assert set(most) == {1}


def test_low_memory_reads_no_file_that_was_replaced_since(fresh_bundle):
    """One network of another model among the others would give an image of neither."""
    sparing = load_pipeline(fresh_bundle, low_memory=True)
    sparing.upscale(_photo(20, 16))
    (graph,) = fresh_bundle.glob("decoder*.onnx")
    graph.write_bytes(next(fresh_bundle.glob("restorer*.onnx")).read_bytes())
    with pytest.raises(BundleError, match=r"decoder.* must have [0-9]+ bytes"):
        sparing.upscale(_photo(20, 16))


def test_engine_settings_are_for_tensorrt(toy_bundle):
    with pytest.raises(ValueError, match="for tensorrt and tensorrt-rtx, got 'cpu'"):
        load_pipeline(toy_bundle, build=BuildOptions())


def test_a_seed_means_an_image(pipeline):
    photo = _photo(16, 16)
    first = pipeline.upscale(photo, seed=7, color_fix="none")
    pipeline.upscale(_photo(33, 20, seed=1), seed=3)
    np.testing.assert_array_equal(pipeline.upscale(photo, seed=7, color_fix="none"), first)
    assert not np.array_equal(pipeline.upscale(photo, seed=8, color_fix="none"), first)


def test_noise_that_is_passed_in_is_used_as_drawn(pipeline):
    photo = _photo(16, 16)
    noise = draw_noise(7, 5, pipeline.latent_shape(16, 16))
    np.testing.assert_array_equal(
        pipeline.upscale(photo, noise=noise), pipeline.upscale(photo, seed=7)
    )


def test_the_draws_of_a_seed_never_change():
    """Other values would change every image of a seed, for example after a change in NumPy."""
    noise = np.concatenate([n.ravel() for n in draw_noise(42, 1, (1, 1, 1, 2))])
    expected = [-1.483841, -0.33662856, 0.20083328, -0.30365205, 0.11660336, -0.26211098]
    np.testing.assert_allclose(noise, expected, rtol=1e-6)


def test_order_and_steps_matter(pipeline):
    seen = {}
    for order in (1, 2, 3):
        pipeline.upscale(
            _photo(16, 16), order=order, observe=lambda n, a, o=order: seen.update({(o, n): a})
        )
    assert not np.array_equal(seen[1, "latent"], seen[2, "latent"])
    assert not np.array_equal(seen[2, "latent"], seen[3, "latent"])


def test_the_result_has_the_depth_of_the_image_or_the_depth_asked_for(pipeline):
    """The float result is rounded once, whatever the depth."""
    photo, seen = _photo(20, 16), {}
    deep = photo.astype(np.uint16) * 257  # the same colours
    as_8 = pipeline.upscale(photo, steps=1, observe=lambda n, a: seen.update({n: a}))
    exact = seen["image"][0].transpose(1, 2, 0).astype(np.float64)
    np.testing.assert_array_equal(as_8, np.rint(exact * 255))
    for lr, depth, dtype in [
        (deep, None, np.uint16), (photo, 16, np.uint16), (deep, 8, np.uint8), (photo / 255, 8, np.uint8),
        (photo / 255, None, np.float32), (photo / 255, 16, np.uint16),
    ]:  # fmt: skip
        hr = pipeline.upscale(lr, steps=1, depth=depth)
        assert hr.dtype == dtype
        largest = 1 if dtype is np.float32 else np.iinfo(dtype).max
        np.testing.assert_allclose(hr, exact * largest, atol=0.5 + 1e-6 * largest, rtol=0)
    with pytest.raises(ValueError, match="depth must be 8, 16 or None, got 12"):
        pipeline.upscale(photo, depth=12)


def test_sixteen_bits_tell_apart_what_eight_bits_do_not(pipeline):
    ramp = np.linspace(20000, 20200, 64).astype(np.uint16)
    lr = np.broadcast_to(ramp[None, :, None], (16, 64, 3))
    assert len(np.unique(pipeline.upscale(lr, detail=0.0))) > 50
    assert len(np.unique(pipeline.upscale(lr, detail=0.0, depth=8))) <= 3


def test_each_start_gives_an_image_of_its_own(pipeline):
    images = [pipeline.upscale(_photo(16, 16), start=start) for start in STARTS]
    assert len({image.tobytes() for image in images}) == len(STARTS)
    with pytest.raises(ValueError, match="steps must be between 1 and 332 with start 333, got 400"):
        pipeline.upscale(_photo(16, 16), start=333, steps=400)


@pytest.mark.parametrize("tile", [0, 64])
def test_detail_goes_from_the_restored_image_to_the_result(pipeline, tile):
    photo, seen = _photo(40, 72), {}
    keep = {"steps": 1, "tile": tile, "observe": lambda n, a: seen.setdefault(n, []).append(a)}
    whole = pipeline.upscale(photo, **keep)
    np.testing.assert_array_equal(pipeline.upscale(photo, detail=1.0, **keep), whole)
    pipeline.upscale(photo, detail=0.0, **keep)
    restored = seen["restored"][0][:, :, :160, :288]
    np.testing.assert_allclose(seen["image"][-1], restored, atol=1e-6)
    pipeline.upscale(photo, detail=0.25, **keep)
    far = [np.abs(image - restored).mean() for image in (seen["image"][-1], seen["image"][0])]
    assert 0 < far[0] < far[1]


def test_many_images_are_upscaled_when_asked_for_with_one_seed(pipeline):
    photos, taken = [_photo(16, 16), "no image", _photo(20, 16, 1)], []
    results = pipeline.upscale_many((taken.append(1) or p for p in photos), steps=1, seed=7)
    assert not taken
    np.testing.assert_array_equal(next(results), pipeline.upscale(photos[0], steps=1, seed=7))
    assert len(taken) == 1
    with pytest.raises(ValueError, match="lr must be"):
        next(results)
    np.testing.assert_array_equal(next(results), pipeline.upscale(photos[2], steps=1, seed=7))
    assert next(results, None) is None


def test_wrong_settings_are_refused(pipeline):
    photo = _photo(16, 16)
    with pytest.raises(ValueError, match="color_fix must be wavelet, adain, none, got 'sepia'"):
        pipeline.upscale(photo, color_fix="sepia")
    with pytest.raises(ValueError, match="steps must be between 1 and 499 with start 500, got 0"):
        pipeline.upscale(photo, steps=0)
    with pytest.raises(ValueError, match="order must be 1, 2 or 3, got 4"):
        pipeline.upscale(photo, order=4)
    noise = draw_noise(0, 5, (1, 4, 8, 8))
    with pytest.raises(ValueError, match=r"noise must be 7 arrays of shape \(1, 4, 8, 8\), got 6"):
        pipeline.upscale(photo, noise=noise[:6])
    with pytest.raises(ValueError, match=r"got one of shape \(1, 4, 8, 9\)"):
        pipeline.upscale(photo, noise=[*noise[:6], np.zeros((1, 4, 8, 9), np.float32)])


def test_numbers_that_are_not_finite_make_no_image(pipeline):
    class Broken:
        inputs, outputs = {}, {}

        def run(self, **inputs):
            return {"image": np.full((1, 3, 64, 64), np.nan, np.float32)}

    broken = Pipeline({**pipeline._stages, "decoder": Broken()}, pipeline.manifest)
    with pytest.raises(EngineError, match="not finite"):
        broken.upscale(_photo(16, 16))


def test_an_unknown_device_is_refused(toy_bundle):
    with pytest.raises(
        ValueError, match=r"device must be cpu, openvino, .*, tensorrt-rtx, got 'tpu'"
    ):
        load_pipeline(toy_bundle, "tpu")


def test_networks_take_as_many_threads_as_given_and_give_the_same_image(toy_bundle):
    lr = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)
    images = []
    for threads in (1, 3):
        pipeline = load_pipeline(toy_bundle, threads=threads)
        for engine in pipeline._stages.values():
            assert engine._session.get_session_options().intra_op_num_threads == threads
        images.append(pipeline.upscale(lr))
    np.testing.assert_array_equal(*images)
