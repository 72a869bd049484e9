"""--device openvino: which precision each stage gets, and what cannot be had, in one line."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import EngineError, load_pipeline
from dossr.runtime.bundle import DEMO, GOLDEN, Int8Record, open_bundle, relative_error
from dossr.runtime.engines.device import load_onnx_device
from dossr.runtime.engines.openvino import core, golden_errors, ov_device
from dossr.runtime.engines.openvino.graph import Graph

AMX = ("BF16", "FP16", "FP32", "INT8", "WINOGRAD")
AVX512_BF16 = ("BF16", "FP32", "INT8", "WINOGRAD")
AVX512 = ("FP32", "INT8", "WINOGRAD")
AVX2_VNNI_2 = ("BF16", "FP16", "FP32", "INT8")
AVX2 = ("FP32", "INT8")
STAGES = ("restorer", "encoder", "denoiser", "decoder")


@pytest.fixture
def computes(monkeypatch):
    """computes(capabilities) makes a processor of this one."""

    def pretend(found):
        monkeypatch.setattr(core, "capabilities", lambda: found)
        monkeypatch.setattr(golden_errors, "capabilities", lambda: found)

    return pretend


@pytest.fixture
def errors(monkeypatch):
    """errors(restorer=0.1, ...) sets what bfloat16 costs; other stages lose nothing."""

    def pretend(**errors):
        monkeypatch.setattr(
            ov_device,
            "golden_errors",
            lambda bundle, graphs, *_: dict.fromkeys(graphs, 0.0) | errors,
        )

    return pretend


@pytest.mark.parametrize("capabilities", [AMX, AVX512_BF16])
def test_auto_takes_bf16_where_the_processor_has_it_and_the_stage_allows_it(
    openvino, computes, errors, said, capabilities
):
    computes(capabilities)
    errors(restorer=golden_errors.BOUNDS["restorer"])
    assert openvino("auto").precisions(open_bundle(DEMO)) == dict.fromkeys(STAGES, "bf16")
    errors(restorer=0.09, decoder=math.inf)
    taken = {**dict.fromkeys(STAGES, "bf16"), "restorer": "fp32", "decoder": "fp32"}
    assert openvino("auto").precisions(open_bundle(DEMO)) == taken
    assert said == [
        "precision bf16: CPU computes in bf16, and every stage is near enough to torch",
        "precision fp32, bf16 for the encoder and denoiser: bf16's error against torch is over its "
        "bound: restorer 9.0e-02 of 1.0e-02, decoder inf of 1.5e-02",
    ]


@pytest.mark.parametrize("capabilities", [AVX512, AVX2_VNNI_2, AVX2])
def test_a_processor_that_would_emulate_bf16_computes_in_fp32_and_refuses_bf16(
    openvino, computes, said, capabilities
):
    computes(capabilities)
    assert openvino("auto").precisions(open_bundle(DEMO)) == dict.fromkeys(STAGES, "fp32")
    assert said == [f"precision fp32: {core.processor()} has neither AMX nor AVX512-BF16"]
    for asked in ("bf16", "decoder=bf16"):
        with pytest.raises(EngineError, match="has neither AMX nor AVX512-BF16; give auto or fp32"):
            openvino(asked)


def test_what_is_asked_for_is_taken_unseen(openvino, computes, monkeypatch, said):
    computes(AMX)
    monkeypatch.setattr(ov_device, "golden_errors", None)
    device = openvino(("bf16", "decoder=fp32"))
    for _ in range(2):
        assert device.precisions(open_bundle(DEMO))["decoder"] == "fp32"
    assert said == ["precision bf16, fp32 for the decoder: as asked"]


def test_a_stage_of_its_own_precision_leaves_the_others_to_auto(openvino, computes, errors):
    computes(AMX)
    errors()
    taken = openvino("decoder=fp32").precisions(open_bundle(DEMO))
    assert taken == {**dict.fromkeys(STAGES, "bf16"), "decoder": "fp32"}


def test_a_stage_that_the_bundle_does_not_have_is_named(openvino):
    with pytest.raises(ValueError, match="a stage 'tail'; this bundle has restorer, encoder, den"):
        openvino("tail=fp32").precisions(open_bundle(DEMO))


def test_the_golden_vectors_are_run_once_for_a_bundle_and_processor(
    cache, openvino, computes, said, monkeypatch
):
    computes(AMX)
    runs = []
    original = golden_errors._measure
    monkeypatch.setattr(golden_errors, "_measure", lambda *a: runs.append(1) or original(*a))
    first = openvino("auto").precisions(open_bundle(DEMO))
    assert openvino("auto").precisions(open_bundle(DEMO)) == first
    assert len(runs) == len(STAGES)
    assert [line for line in said if "once" in line] == [
        "comparing bf16 with the golden vectors, once for this bundle on this device"
    ]
    (cache / next(cache.glob("*.bf16")).name).write_text("not a number")
    openvino("auto").precisions(open_bundle(DEMO))
    assert len(runs) == len(STAGES) + 1
    computes(AVX512_BF16)  # another processor
    openvino("auto").precisions(open_bundle(DEMO))
    assert len(runs) == 2 * len(STAGES) + 1


@pytest.fixture
def measured(cache, monkeypatch):
    """measured(bundle) is the bfloat16 error of the decoder: the number of measurements so far."""
    runs = []
    monkeypatch.setattr(golden_errors, "_measure", lambda *_: runs.append(1) or float(len(runs)))

    def measure(bundle):
        graph = Graph(bundle.path("decoder", "openvino"), None, {"decoder.cpu.onnx": "0" * 64})
        how = ("bf16", "CPU", "a CPU")
        return golden_errors.golden_errors(bundle, {"decoder": graph}, how, str, print)["decoder"]

    return measure


def test_an_error_that_was_cut_on_disk_is_measured_again(cache, measured):
    bundle = open_bundle(DEMO)
    assert [measured(bundle), measured(bundle)] == [1, 1]
    (record,) = cache.glob("*.bf16")
    record.write_text("0.0")  # of 0.089
    assert [measured(bundle), measured(bundle)] == [2, 2]


def test_other_golden_vectors_or_another_dossr_are_measured_anew(measured, monkeypatch):
    bundle = open_bundle(DEMO)
    assert measured(bundle) == 1
    other = replace(bundle.manifest.files[GOLDEN], sha256="1" * 64)
    files = {**bundle.manifest.files, GOLDEN: other}
    assert measured(replace(bundle, manifest=replace(bundle.manifest, files=files))) == 2
    monkeypatch.setattr(golden_errors, "__version__", "another")
    assert measured(bundle) == 3


def test_numbers_that_are_not_finite_or_not_known_are_never_good_enough():
    def broken(**inputs):
        return {"image": np.full((1, 3, 96, 96), np.nan, np.float32)}

    cases = open_bundle(DEMO).golden("decoder")
    assert golden_errors._measure(lambda: broken, cases) == math.inf
    assert golden_errors._measure(lambda: broken, []) == math.inf


@pytest.mark.parametrize("plugin", ["GPU", "NPU"])
def test_a_device_that_is_not_here_is_named_with_what_is(openvino, plugin):
    if any(name.startswith(plugin) for name in core.core().available_devices):
        pytest.skip(f"this machine has a {plugin}")
    with pytest.raises(
        EngineError, match=f"OpenVINO finds no {plugin} here, only CPU; a {plugin} n"
    ):
        openvino(name=f"openvino:{plugin}")


@pytest.fixture
def gpu(monkeypatch):
    """A described GPU; nothing is run on it."""
    monkeypatch.setattr(ov_device, "check_plugin", lambda plugin: None)
    monkeypatch.setattr(ov_device, "default_precision", lambda plugin: "fp16")
    monkeypatch.setattr(ov_device, "device_name", lambda plugin: "a GPU")


def test_a_gpu_takes_its_own_precision_or_fp32_and_never_bf16(openvino, gpu, errors, said):
    bundle = open_bundle(DEMO)
    errors()
    assert set(openvino("auto", "openvino:GPU").precisions(bundle).values()) == {"fp16"}
    assert set(openvino("fp32", "openvino:GPU").precisions(bundle).values()) == {"fp32"}
    assert said == [
        "precision fp16: GPU computes in fp16, and every stage is near enough to torch",
        "precision fp32: as asked",
    ]
    with pytest.raises(EngineError, match="bf16 is for processors, and openvino:NPU takes auto"):
        openvino("bf16", "openvino:NPU")


def test_a_gpu_computes_a_stage_in_fp32_whose_numbers_overflow_its_own(openvino, gpu, errors):
    errors(decoder=math.inf)
    taken = openvino("auto", "openvino:GPU").precisions(open_bundle(DEMO))
    assert taken == {**dict.fromkeys(STAGES, "fp16"), "decoder": "fp32"}


@pytest.fixture
def with_integers():
    """The demo bundle as if its restorer had an int8 network."""
    bundle = open_bundle(DEMO)
    record = bundle.manifest.stages["restorer"]
    name = record.graphs["openvino"]
    integers = Int8Record(name, record.weights, products=51, held=3, error=0.004)
    bundle.manifest.stages["restorer"] = replace(record, int8=integers)
    return bundle


def test_int8_is_taken_where_the_bundle_has_it_and_the_rest_is_auto(
    openvino, computes, errors, with_integers
):
    computes(AVX512)
    errors()
    taken = {**dict.fromkeys(STAGES, "fp32"), "restorer": "int8"}
    assert openvino("int8").precisions(with_integers) == taken
    computes(AMX)
    taken = openvino(("bf16", "restorer=int8")).precisions(with_integers)
    assert taken == {**dict.fromkeys(STAGES, "bf16"), "restorer": "int8"}


def test_int8_that_cannot_be_had_is_one_line_and_never_another_precision(
    openvino, computes, errors, with_integers, monkeypatch
):
    computes(AMX)
    with pytest.raises(
        EngineError, match=r"must have an int8 network for a stage, and has none; add"
    ):
        openvino("int8").precisions(open_bundle(DEMO))
    with pytest.raises(EngineError, match=r"int8 network for denoiser, and has none; .* --int8"):
        openvino(("denoiser=int8", "restorer=int8")).precisions(with_integers)
    errors(restorer=0.02)
    with pytest.raises(
        EngineError, match=r"int8's error .*: restorer 2\.0e-02 of 1\.0e-02; give auto"
    ):
        openvino("int8").precisions(with_integers)
    monkeypatch.setattr(ov_device, "check_plugin", lambda plugin: None)
    with pytest.raises(EngineError, match="int8 is for processors, and openvino:GPU takes auto"):
        openvino("int8", "openvino:GPU").precisions(with_integers)


def test_the_processor_has_two_names(openvino):
    assert openvino(name="openvino:CPU").name == "openvino:CPU"
    assert openvino().name == "openvino"


def test_an_old_openvino_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(core.ov, "__version__", "2025.4.1-20426-82bbf0292c5")
    core.core.cache_clear()
    with pytest.raises(
        EngineError, match=r"must be 2026\.4 or newer, got 2025\.4\.1; pip install -U"
    ):
        load_onnx_device("openvino")


def test_a_bundle_without_the_target_names_the_export(toy_bundle, openvino):
    bundle = open_bundle(toy_bundle)
    del bundle.manifest.stages["decoder"].graphs["openvino"]
    with pytest.raises(ValueError, match="export the checkpoint again with --target openvino"):
        openvino().open(bundle, "decoder")


def test_every_stage_of_the_demo_is_exact_in_fp32(openvino):
    device, bundle = openvino("fp32"), open_bundle(DEMO)
    for stage in bundle.manifest.stages:
        engine = device.open(bundle, stage)
        for case in bundle.golden(stage):
            found = engine.run(**case.inputs)
            for name, exact in case.outputs.items():
                assert relative_error(found[name], exact) < 1e-4


@pytest.fixture(scope="module")
def photo():
    path = DEMO.parents[1] / "tests" / "images" / "astronaut.png"
    return np.asarray(Image.open(path).convert("RGB"))[16:80, 32:96]


def test_the_demos_image_in_bf16_is_38_db_from_fp32(photo):
    try:
        core.check_bf16()
    except EngineError as error:
        pytest.skip(str(error))
    images = [
        load_pipeline(device="openvino", precision=precision, log=lambda line: None).upscale(photo)
        for precision in ("fp32", "bf16")
    ]
    assert not np.array_equal(*images)
    squares = np.mean((images[0].astype(float) - images[1]) ** 2)
    assert 10 * np.log10(255**2 / squares) >= 38


def test_noise_of_every_bound_at_once_leaves_38_db(photo):
    """The bounds, without a processor that computes in bfloat16."""
    pipeline = load_pipeline(device="openvino", precision="fp32", log=lambda line: None)
    exact = pipeline.upscale(photo)
    random = np.random.default_rng(0)

    def noisy(stage, run):
        def run_noisy(**inputs):
            outputs = run(**inputs)
            for array in outputs.values():
                noise = random.standard_normal(array.shape, np.float32)
                share = golden_errors.BOUNDS[stage] * np.linalg.norm(array) / np.linalg.norm(noise)
                array += noise * np.float32(share)
            return outputs

        return run_noisy

    for stage, engine in pipeline._stages.items():
        engine.run = noisy(stage, engine.run)
    squares = np.mean((exact.astype(float) - pipeline.upscale(photo)) ** 2)
    assert 38 <= 10 * np.log10(255**2 / squares) <= 42


def test_low_memory_gives_the_same_image(photo):
    images = [
        load_pipeline(
            device="openvino", precision="fp32", low_memory=low, log=lambda line: None
        ).upscale(photo[:32, :32], steps=1)
        for low in (False, True)
    ]
    np.testing.assert_array_equal(*images)


def test_without_the_package_it_is_the_usual_line(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    program = (
        "import sys; sys.modules['openvino'] = None\nfrom dossr.runtime.launch import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "photo.png", "-o", tmp_path / "x4.png",
         "--device", "openvino:CPU"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.endswith("install it with: pip install 'dossr[openvino]'\n")
