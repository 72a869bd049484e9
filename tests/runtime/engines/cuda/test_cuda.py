"""--device cuda: what it needs, and its results on a GPU."""

import importlib.util
import sys
import time
from contextlib import nullcontext
from unittest.mock import Mock

import numpy as np
import pytest

from dossr.runtime import EngineError, load_pipeline
from dossr.runtime.bundle import open_bundle
from dossr.runtime.cli import main
from dossr.runtime.engines import cuda
from dossr.runtime.engines.device import Host, load_device
from dossr.runtime.engines.onnxruntime.cuda_provider import check_cuda, cuda_provider
from dossr.runtime.engines.onnxruntime.session import open_whole
from dossr.runtime.errors import OutOfMemoryError
from dossr.solvers import dos_sde_coefficients, released_schedule


def _photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _missing():
    """Return why --device cuda cannot run here, or None."""
    try:
        device = load_device("cuda")
        import cupy

        capability = cupy.cuda.Device(device.index).compute_capability
        check_cuda(cupy.cuda.runtime.runtimeGetVersion() // 1000, capability)
    except (ModuleNotFoundError, EngineError) as error:
        return str(error)
    return None


MISSING = _missing()


without_gpu = pytest.mark.skipif(MISSING is None, reason="a GPU is there")


def gpu(test):
    """Mark a test that needs --device cuda."""
    reason = f"--device cuda does not run here: {MISSING}"
    return pytest.mark.gpu(pytest.mark.skipif(MISSING is not None, reason=reason)(test))


@without_gpu
def test_what_cuda_lacks_is_one_line(toy_bundle, capsys, tmp_path):
    with pytest.raises((ModuleNotFoundError, EngineError), match=r"^[^\n]+$"):
        load_pipeline(toy_bundle, "cuda")
    image = tmp_path / "photo.png"
    from PIL import Image

    Image.fromarray(_photo(8, 8)).save(image)
    with pytest.raises(SystemExit) as stopped:
        main.main([str(image), "-o", str(tmp_path / "out.png"), "-b", str(toy_bundle),
                   "--device", "cuda"], prog_name="dossr-run")  # fmt: skip
    stderr = capsys.readouterr().err
    assert stopped.value.code == 2
    assert stderr.count("\n") == 1
    assert MISSING in stderr


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_missing_cupy_is_named_with_its_install_command(toy_bundle, capsys):
    with pytest.raises(ModuleNotFoundError, match="cupy"):
        load_device("cuda")
    with pytest.raises(SystemExit):
        main.main([__file__, "-o", "x.png", "-b", str(toy_bundle), "--device", "cuda"])
    assert "pip install 'dossr[cuda]'" in capsys.readouterr().err


def test_an_onnxruntime_without_the_cuda_provider_is_named():
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has a CUDA provider")
    with pytest.raises(
        EngineError, match=r"^this onnxruntime [\d.]+ has no CUDA provider; pip [^\n]+$"
    ):
        check_cuda(13, "90")


@pytest.mark.filterwarnings("ignore:Specified provider")  # ONNX Runtime's own remark
def test_a_session_that_fell_back_as_a_whole_is_refused(toy_bundle):
    if MISSING is None:
        pytest.skip("a GPU is there")
    with pytest.raises(EngineError, match=r"did not start CUDAExecutionProvider"):
        open_whole(
            open_bundle(toy_bundle).path("decoder", "cpu"), cuda_provider(1, 0, tf32=False), {}
        )


def test_a_block_that_the_gpu_does_not_have_is_a_lack_of_memory(monkeypatch):
    """So that smaller tiles are tried; the driver is a fake."""
    fake = Mock()
    fake.cuda.runtime.CUDARuntimeError = RuntimeError
    fake.cuda.Device = lambda index: nullcontext()
    fake.cuda.Memory.side_effect = RuntimeError("cudaErrorMemoryAllocation: out of memory")
    name = f"{cuda.__name__}.cupy_device"
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(cuda, "cupy_device", None, raising=False)  # as before after the test
    monkeypatch.setitem(sys.modules, name, None)
    del sys.modules[name]
    device = importlib.import_module(name).Cuda
    with pytest.raises(OutOfMemoryError, match=r"^the GPU must have 3 MiB left in one piece .*"):
        device.block(Mock(index=0), 3 << 20)


@gpu
@pytest.mark.parametrize("name", ["tiny_o1_s1_none", "tiny_o2_s3_adain", "tiny_o3_s5_wavelet"])
def test_the_references_images_on_a_gpu(bundles, golden, name):
    """In float32 without TF32; the third run replays the CUDA graph of every network."""
    data = np.load(golden / f"{name}.npz")
    pipeline = load_pipeline(bundles("separate"), "cuda")
    for _ in range(3):
        seen = _on_gpu(pipeline, data, name)
        for key, recorded in {"eps": "eps", "x0": "pred_x0", "latent": "final_latent",
                              "hint": "control_latent", "image": "image"}.items():  # fmt: skip
            expected = np.asarray(data[recorded], np.float64)
            error = np.linalg.norm(np.squeeze(seen[key] - expected)) / np.linalg.norm(expected)
            assert error <= 1e-3, (key, error)


@gpu
def test_half_precision_on_a_gpu_is_within_45_db(bundles, golden):
    data = np.load(golden / "tiny_o3_s5_wavelet.npz")
    images = [
        _on_gpu(load_pipeline(bundles("separate", fp16=fp16), "cuda"), data, "o3_s5_wavelet")[
            "image"
        ]
        for fp16 in (False, True)
    ]
    assert -10.0 * np.log10(np.mean((images[0] - images[1]) ** 2)) >= 45.0


@gpu
def test_tiles_on_a_gpu(bundles):
    """The result differs from the CPU's by at most two levels."""
    photo, settings = _photo(80, 100), {"steps": 2, "tile": 64, "batch": 2}
    here, there = (
        load_pipeline(bundles("separate"), device).upscale(photo, **settings).astype(int)
        for device in ("cpu", "cuda")
    )
    assert np.abs(here - there).max() <= 2


@gpu
def test_the_fused_kernel_on_a_gpu():
    device = load_device("cuda")
    arrays = np.random.default_rng(0).standard_normal((6, 1, 4, 64, 64), dtype=np.float32)
    x, eps, x_lr, z, *older = map(device.upload, arrays)
    row = dos_sde_coefficients(released_schedule(5), 3)[-1]
    with device.active():
        results = device.step(row, x, eps, x_lr, tuple(older), z)
    expected = Host().step(row, *arrays[:3], tuple(arrays[4:]), arrays[3])
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(device.download(result), wanted, atol=2e-6)


@gpu
def test_events_on_a_gpu_see_its_work_and_do_not_wait_for_it():
    device = load_device("cuda")
    x = device.upload(np.ones((4096, 4096), np.float32))
    for _ in range(2):  # the first product loads its library
        with device.active():
            before, began = device.record_event(), time.perf_counter()
            for _ in range(50):
                x @ x
            after = device.record_event()
            told = time.perf_counter() - began
    assert device.seconds(before, after) > 2 * told
    assert device.seconds(before, before) == 0


def _on_gpu(pipeline, data, name):
    """Return every intermediate of a recorded run in NumPy, with steps stacked."""
    *_, order, _, color_fix = name.split("_")
    seen = {}
    pipeline.upscale(
        data["lr"],
        steps=len(data["x_t"]),
        order=int(order[1:]),
        color_fix=color_fix,
        noise=data["noise"],
        observe=lambda n, array: seen.setdefault(n, []).append(array.get()),
    )
    return {n: np.stack(arrays) for n, arrays in seen.items()}
