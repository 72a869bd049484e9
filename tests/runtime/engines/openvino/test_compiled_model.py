"""A network in OpenVINO: inputs without a copy, outputs of the caller, few shapes in memory."""

import gc
import weakref
from contextlib import suppress

import numpy as np
import pytest

from dossr.runtime import BundleError, EngineError
from dossr.runtime.bundle import DEMO, open_bundle, relative_error
from dossr.runtime.engines.device import load_onnx_device
from dossr.runtime.engines.openvino import compiled_model
from dossr.runtime.engines.openvino.core import core
from dossr.runtime.engines.openvino.graph import read_signature
from dossr.runtime.errors import OutOfMemoryError
from dossr.runtime.tensors import TensorSpec


@pytest.fixture
def decoder(openvino, toy_bundle):
    return openvino().open(open_bundle(toy_bundle), "decoder")


def _latent(side, value=1.0):
    return np.full((1, 4, side, side), value, np.float32)


@pytest.fixture
def compiled(monkeypatch):
    """The shapes that are read and compiled, one entry each."""
    shapes = []
    original = compiled_model.read_model

    def read(path):
        model = original(path)
        shapes.append(path.name)
        return model

    monkeypatch.setattr(compiled_model, "read_model", read)
    return shapes


def test_two_calls_share_no_memory_and_inputs_are_not_written(decoder):
    one, two = _latent(8), _latent(8, 2.0)
    first = decoder.run(x=one)["image"]
    before = first.copy()
    second = decoder.run(x=two)["image"]
    np.testing.assert_array_equal(first, before)
    assert not np.shares_memory(first, second)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(one, _latent(8))
    assert first.flags.owndata


def test_an_output_outlives_its_engine(openvino, toy_bundle):
    engine = openvino().open(open_bundle(toy_bundle), "decoder")
    found, gone = engine.run(x=_latent(8))["image"], weakref.ref(engine)
    before = found.copy()
    del engine
    assert gone() is None
    np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize("kind", ["strided", "read-only", "unaligned"])
def test_any_array_is_taken(decoder, kind):
    random = np.random.default_rng(0).random((1, 4, 8, 16), np.float32)
    array = random[..., ::2]
    expected = decoder.run(x=array.copy())["image"]
    if kind == "read-only":
        array = array.copy()
        array.setflags(write=False)
    if kind == "unaligned":
        bytes_ = np.zeros(array.nbytes + 1, np.uint8)
        unaligned = bytes_[1:].view(np.float32).reshape(array.shape)
        unaligned[:] = array
        array = unaligned
    np.testing.assert_array_equal(decoder.run(x=array)["image"], expected)


def test_nothing_is_read_before_a_run_and_a_shape_is_compiled_once(
    openvino, toy_bundle, cache, compiled
):
    engine = openvino().open(open_bundle(toy_bundle), "decoder")
    assert compiled == []
    for side in (8, 16, 8, 16, 8):
        engine.run(x=_latent(side))
    assert len(compiled) == 2


def test_an_engine_holds_the_last_two_shapes(openvino, toy_bundle, cache, compiled):
    engine = openvino().open(open_bundle(toy_bundle), "decoder")
    for number, side in enumerate((8, 16, 24, 32, 40), 1):
        engine.run(x=_latent(side))
        assert len(engine._requests) == min(number, compiled_model.SHAPES)
    engine.run(x=_latent(32))
    engine.run(x=_latent(48))
    assert {key[0][2] for key in engine._requests} == {32, 48}


def test_it_uses_all_cores_of_the_process(openvino, toy_bundle):
    from dossr.runtime.hardware import usable_cores

    engine = openvino().open(open_bundle(toy_bundle), "decoder")
    engine.run(x=_latent(8))
    (request,) = engine._requests.values()
    assert 1 <= request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") <= usable_cores()


def test_a_wrong_array_is_refused(decoder):
    with pytest.raises(ValueError, match=r"tensor 'x' must be float32\[batch, 4, x_h, x_w\], got"):
        decoder.run(x=_latent(8).astype(np.float64))
    with pytest.raises(ValueError, match="got float32"):
        decoder.run(x=np.zeros((1, 3, 8, 8), np.float32))


def test_a_file_that_does_not_match_the_manifest_is_refused_in_one_line(
    openvino, toy_bundle, monkeypatch
):
    bundle = open_bundle(toy_bundle)
    record = bundle.manifest.stages["decoder"]
    other = (TensorSpec("y", "float32", ("batch", 4, "h", "w")),)
    engine = openvino().open(bundle, "decoder")
    engine.inputs = {"y": other[0]}
    with pytest.raises(BundleError, match="do not match the manifest; export the checkpoint again"):
        engine.run(y=_latent(12))
    engine.inputs = {"x": TensorSpec("x", "float32", ("batch", 4, "h", 8))}
    with pytest.raises(BundleError, match="do not match the manifest"):
        engine.run(x=np.zeros((1, 4, 104, 8), np.float32))
    assert record.signature[0].keys() == {"x"}


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x08\x07"])
def test_a_damaged_file_is_one_line_and_nothing_else(tmp_path, capfd, content):
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"network\.onnx") as raised:
        load_onnx_device("openvino").open_file(path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_missing_are_one_line(tmp_path):
    path = tmp_path / "denoiser.onnx"
    path.write_bytes((DEMO / "denoiser.openvino.onnx").read_bytes())
    with pytest.raises(EngineError) as raised:
        load_onnx_device("openvino").open_file(path)
    assert "denoiser.weights" in str(raised.value)


def test_any_onnx_file_runs(case, cache):
    """Also of other targets, with its own names; nothing is kept on disk for it."""
    golden = case("decoder")
    engine = load_onnx_device("openvino").open_file(DEMO / "decoder.cpu.onnx")
    assert list(engine.inputs) == ["x"]
    assert engine.inputs["x"].shape == ("x_0", 6, "x_2", "x_3")
    assert relative_error(engine.run(**golden.inputs)["image"], golden.outputs["image"]) < 1e-5
    assert not cache.exists()


@pytest.mark.parametrize(
    "text",
    ["std::bad_alloc", "can't alloc", "Resource temporarily unavailable", "can't start new thread"],
)
def test_running_out_of_memory_is_one_line(decoder, monkeypatch, text):
    def compile_model(*arguments):
        raise RuntimeError(f"Exception from src/inference/src/cpp/core.cpp:117:\n{text}\n")

    monkeypatch.setattr(type(core()), "compile_model", compile_model)
    with pytest.raises(
        OutOfMemoryError, match=r"decoder\.cpu\.onnx for 1x4x80x80: out of memory f"
    ):
        decoder.run(x=_latent(80))


def test_running_out_of_memory_gives_back_the_compiled_models_of_all_networks(
    openvino, toy_bundle, monkeypatch
):
    """The networks of smaller tiles would else be compiled beside them."""
    device, bundle = openvino(), open_bundle(toy_bundle)
    restorer, decoder = (device.open(bundle, stage) for stage in ("restorer", "decoder"))
    restorer.run(lr=np.zeros((1, 3, 8, 8), np.float32))
    expected = decoder.run(x=_latent(8))["image"]
    requests = [
        weakref.ref(request) for e in (restorer, decoder) for request in e._requests.values()
    ]

    def infer(self, **settings):
        raise RuntimeError("can't alloc")

    gc.disable()  # the memory is needed at once
    try:
        with monkeypatch.context() as patch, suppress(OutOfMemoryError):
            patch.setattr(compiled_model.ov.InferRequest, "infer", infer)
            decoder.run(x=_latent(8))
        assert [request() for request in requests] == [None, None]
    finally:
        gc.enable()
    np.testing.assert_array_equal(decoder.run(x=_latent(8))["image"], expected)


@pytest.mark.parametrize("call", ["release_memory", "create_infer_request", "import_model"])
def test_a_failure_around_compiling_is_one_line(openvino, toy_bundle, monkeypatch, call):
    """A request allocates memory, and so does an import."""
    device, bundle = openvino(), open_bundle(toy_bundle)
    engines = [device.open(bundle, "decoder") for _ in range(2)]
    engines[0].run(x=_latent(8))

    def fail(*arguments):
        raise MemoryError("std::bad_alloc")

    library = compiled_model.ov
    monkeypatch.setattr(
        library.Core if call == "import_model" else library.CompiledModel, call, fail
    )
    with pytest.raises(OutOfMemoryError, match=r"^decoder\.cpu\.onnx: out of memory"):
        engines[1].run(x=_latent(8))


def test_a_failure_of_the_library_names_the_file_and_no_source_of_its_own(decoder, monkeypatch):
    def compile_model(*arguments):
        raise RuntimeError("Exception from src/inference/src/core.cpp:117:\n\nno such\nthing\n")

    monkeypatch.setattr(type(core()), "compile_model", compile_model)
    with pytest.raises(EngineError, match=r"x88: OpenVINO [\d.]+: no such thing$"):
        decoder.run(x=_latent(88))


def test_the_graph_says_what_the_manifest_says():
    bundle = open_bundle(DEMO)
    for stage, record in bundle.manifest.stages.items():
        inputs, outputs = read_signature(bundle.path(stage, "openvino"))
        assert inputs.keys() == record.signature[0].keys()
        assert outputs.keys() == record.signature[1].keys()
