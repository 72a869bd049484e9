"""--device auto: what is built, then what computes right, then the CPU. A GPU is a fake here."""

from unittest.mock import Mock

import numpy as np
import pytest

from dossr.runtime import doctor, load_pipeline
from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines import auto
from dossr.runtime.engines.device import Host
from dossr.runtime.errors import EngineError
from dossr.runtime.hardware import GpuError, find_gpu


class Wrong(Host):
    """A device whose networks are off by a factor."""

    def open(self, bundle, stage):
        engine = super().open(bundle, stage)
        original = engine.run
        engine.run = lambda **inputs: {n: a * 1.1 for n, a in original(**inputs).items()}
        return engine


@pytest.fixture
def gpu_packages(monkeypatch):
    """The packages of GPUs are installed, and OpenVINO is not."""
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: name != "openvino")


def _loads(monkeypatch, devices):
    def load(name, build=None, tf32=None, log=None, threads=None):
        found = devices.get(name) or EngineError(f"no {name} here")
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(auto, "load_device", load)


def test_without_gpu_packages_it_is_the_cpu(monkeypatch):
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: None)
    device, reason = auto.choose_device(open_bundle(DEMO))
    assert device.name == "cpu"
    assert reason == "no GPU packages are installed"


def test_cuda_is_taken_only_if_the_demo_model_computes_right(monkeypatch, gpu_packages):
    right, wrong = Host(), Wrong()
    _loads(monkeypatch, {"cuda": right})
    assert auto.choose_device(open_bundle(DEMO)) == (
        right,
        "it gives the golden vectors of the demo model",
    )
    _loads(monkeypatch, {"cuda": wrong})
    device, reason = auto.choose_device(open_bundle(DEMO))
    assert device.name == "cpu"
    assert reason.startswith("cuda: the restorer must give 'restored' within 1e-02 of torch, got ")


def test_a_gpu_that_does_not_start_is_the_reason_for_the_cpu(monkeypatch, gpu_packages):
    _loads(monkeypatch, {})
    device, reason = auto.choose_device(open_bundle(DEMO))
    assert (device.name, reason) == ("cpu", "cuda: no cuda here")


def test_an_error_of_the_gpus_library_is_the_reason_for_the_cpu(monkeypatch, gpu_packages):
    class Full(Host):
        def upload(self, array):
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY")

    _loads(monkeypatch, {"cuda": Full()})
    device, reason = auto.choose_device(open_bundle(DEMO))
    assert (device.name, reason) == ("cpu", "cuda: CUDA_ERROR_OUT_OF_MEMORY")


def test_a_bundle_without_a_graph_for_cuda_is_not_given_to_it(
    monkeypatch, gpu_packages, toy_bundle
):
    _loads(monkeypatch, {"cuda": Host()})
    device, _ = auto.choose_device(open_bundle(toy_bundle))
    assert device is not auto.load_device("cuda")


def test_engines_that_exist_and_cannot_be_used_are_named_and_nothing_is_built(
    monkeypatch, gpu_packages, fresh_bundle
):
    (fresh_bundle / "engines").mkdir()
    (fresh_bundle / "engines" / "restorer-1x3x128x128.tensorrt-rtx.engine").write_bytes(b"x")
    _loads(monkeypatch, {})
    device, reason = auto.choose_device(open_bundle(fresh_bundle))
    assert (device.name, reason) == (
        "cpu",
        "tensorrt-rtx: no tensorrt-rtx here",
    )
    assert len(list((fresh_bundle / "engines").iterdir())) == 1


def test_an_engine_file_that_is_a_link_to_nothing_is_passed_over(tmp_path):
    (tmp_path / "engines").mkdir()
    name = "engines/decoder-1x4x16x16.{}.engine"
    (tmp_path / name.format("tensorrt")).symlink_to("nowhere")
    assert auto._libraries_with_engines(tmp_path) == []
    (tmp_path / name.format("tensorrt-rtx")).touch()
    assert auto._libraries_with_engines(tmp_path) == ["tensorrt-rtx"]


@pytest.fixture
def only_openvino(monkeypatch):
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: name == "openvino")


def test_openvino_is_taken_where_the_processor_computes_in_bf16(monkeypatch, only_openvino):
    from dossr.runtime.engines.openvino import core

    bundle = open_bundle(DEMO)
    monkeypatch.setattr(core, "capabilities", lambda: ("BF16", "FP32", "WINOGRAD"))
    device, reason = auto.choose_device(bundle)
    assert (device.name, reason) == ("openvino", "this processor computes in bfloat16")
    monkeypatch.setattr(core, "capabilities", lambda: ("FP32", "WINOGRAD"))
    device, reason = auto.choose_device(bundle)
    assert device.name == "cpu"
    assert reason == f"openvino: {core.processor()} has neither AMX nor AVX512-BF16"
    for record in bundle.manifest.stages.values():
        del record.graphs["openvino"]
    assert auto.choose_device(bundle)[1] == "no GPU packages are installed"


@pytest.mark.parametrize(
    ("installed", "targets", "engine", "expected"),
    [
        ("onnxruntime", "cpu cuda", None, "cpu"),
        ("onnxruntime cupy", "cpu cuda", None, "cuda"),
        ("onnxruntime cupy", "cpu", None, "cpu"),
        ("onnxruntime cupy tensorrt", "cpu", "tensorrt", "tensorrt"),
        ("onnxruntime cupy", "cpu", "tensorrt", "cpu"),
        ("onnxruntime openvino", "cpu openvino", None, "openvino"),
    ],
)
def test_memory_is_planned_for_the_device_that_will_be_taken(
    tmp_path, monkeypatch, installed, targets, engine, expected
):
    """On a machine with a GPU and a processor that computes in bfloat16."""
    core = pytest.importorskip("dossr.runtime.engines.openvino.core")
    monkeypatch.setattr(core, "capabilities", lambda: ("BF16", "WINOGRAD"))
    monkeypatch.setattr(auto, "find_gpu", object)
    monkeypatch.setattr(auto.importlib.util, "find_spec", installed.split().__contains__)
    if engine:
        (tmp_path / "engines").mkdir()
        (tmp_path / "engines" / f"restorer-1x3x128x128.{engine}.engine").touch()
    assert auto.likely_device(tmp_path, Mock(targets=targets.split())) == expected


def test_openvino_comes_after_cuda(monkeypatch):
    right = Host()
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: name)
    _loads(monkeypatch, {"cuda": right, "openvino": Host()})
    assert auto.choose_device(open_bundle(DEMO))[0] is right


def test_a_check_runs_the_largest_single_image_of_every_stage():
    bundle, shapes = open_bundle(DEMO), []

    class Seen(Host):
        def open(self, bundle, stage):
            engine = super().open(bundle, stage)
            original = engine.run

            def run(**inputs):
                shapes.append(next(iter(inputs.values())).shape)
                return original(**inputs)

            engine.run = run
            return engine

    errors = auto.check_device(Seen(), bundle)
    assert errors.keys() == bundle.manifest.stages.keys()
    assert len(set(shapes)) == 4 - 1  # encoder, restorer, and the latents of denoiser and decoder
    with pytest.raises(EngineError, match="must give"):
        auto.check_device(Wrong(), bundle)


def test_a_pipeline_says_what_it_took_and_gives_the_same_image(toy_bundle):
    said = []
    pipeline = load_pipeline(toy_bundle, "auto", log=said.append)
    assert said[0].startswith(f"device {pipeline.device.name}: ")
    photo = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    if pipeline.device.name == "cpu":
        expected = load_pipeline(toy_bundle, "cpu").upscale(photo, steps=1)
        np.testing.assert_array_equal(pipeline.upscale(photo, steps=1), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "tensorrt", "tensorrt-rtx"])
def test_the_demo_gives_its_golden_vectors_on_a_gpu(name):
    """In a process of its own, as a process has one TensorRT."""
    try:
        find_gpu()
    except GpuError as error:
        pytest.skip(str(error))
    found = doctor._try(name)
    if "missing" in found:
        pytest.skip(f"{found['missing']} is not installed")
    assert "error" not in found
    assert found["errors"].keys() == {"restorer", "encoder", "denoiser", "decoder"}
