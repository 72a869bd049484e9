"""The exported bundle gives the reference's numbers, which is the main promise of this project."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dossr.runtime import load_pipeline
from dossr.runtime.bundle import TARGETS, open_bundle

BOUND = 1e-4
CASES = (
    "tiny_o1_s1_none",
    "tiny_o2_s3_adain",
    "tiny_o3_s5_wavelet",
    "tiny_o3_s7_none",
    "tiny_shared_o3_s5_wavelet",
)


def _settings(name):
    *_, order, _, color_fix = name.split("_")
    return int(order[1:]), color_fix


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("name", CASES)
def test_the_exported_networks_give_the_references_images(
    bundles, golden, golden_errors, name, device
):
    bundle, data = bundles("shared" if "shared" in name else "separate"), golden / f"{name}.npz"
    worst, levels, _ = golden_errors(bundle, np.load(data), *_settings(name), device=device)
    assert {key: error for key, error in worst.items() if not error <= BOUND} == {}
    assert levels <= 1  # the reference truncates to 8 bits, we round


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fp16", [False, True])
def test_the_graphs_of_every_target_give_the_same_image(
    bundles, golden, golden_errors, target, fp16
):
    """Every target runs on ONNX Runtime's CPU here, and rounds as its graphs say."""
    data = np.load(golden / "tiny_o3_s5_wavelet.npz")
    exact = golden_errors(bundles("separate"), data, 3, "wavelet")[2]
    worst, _, image = golden_errors(
        bundles("separate", fp16=fp16), data, 3, "wavelet", target=target
    )
    psnr = -10.0 * np.log10(np.mean((exact - image) ** 2) + 1e-20)
    assert psnr >= (45.0 if fp16 else 90.0)
    if not fp16:
        assert {key: error for key, error in worst.items() if not error <= BOUND} == {}


def test_the_separate_encoder_is_a_stage_only_where_it_differs(bundles):
    assert "condition" in open_bundle(bundles("separate")).manifest.stages
    assert "condition" not in open_bundle(bundles("shared")).manifest.stages


def test_each_target_has_the_norms_and_attention_of_its_engine(bundles):
    bundle = open_bundle(bundles("separate", fp16=True))

    def kinds(target):
        model = onnx.load(bundle.path("denoiser", target), load_external_data=False)
        return Counter(node.op_type for node in model.graph.node)

    attentions, norms = 46, 88  # two for each of 16 transformers in the UNet, 7 in the ControlNet
    for target in ("openvino", "tensorrt"):
        assert kinds(target)["GroupNormalization"] == norms
        assert kinds(target)["Attention"] == attentions
    assert kinds("cpu")["Attention"] == attentions
    assert kinds("cpu")["GroupNormalization"] == 0
    assert kinds("cpu")["Reciprocal"] == norms
    assert kinds("tensorrt")["Reciprocal"] == 0
    old = kinds("tensorrt-10.3")
    assert old["Softmax"] == attentions
    assert old["InstanceNormalization"] == norms
    assert not {"Attention", "GroupNormalization", "Gelu"} & old.keys()


def test_all_targets_share_their_weights(bundles):
    """The graphs of the largest stage take less than a tenth of its weights."""
    for fp16 in (False, True):
        bundle = open_bundle(bundles("separate", fp16=fp16))
        record = bundle.manifest.stages["denoiser"]
        sizes = bundle.manifest.files
        one = sum(
            t.const_value.nbytes
            for t in ir.load(bundle.path("denoiser", "tensorrt")).graph.initializers.values()
        )
        assert sizes[record.weights].size < 1.1 * one


def test_equal_graphs_of_several_targets_are_one_file(bundles):
    stages = open_bundle(bundles("separate", fp16=True)).manifest.stages
    for stage, record in stages.items():
        assert list(record.graphs) == list(TARGETS)
        assert (record.graphs["openvino"] == f"{stage}.cpu.onnx") == (stage != "denoiser")
    graphs = stages["restorer"].graphs  # has neither norms nor attention
    assert graphs["cuda"] == graphs["tensorrt"] == "restorer.cuda.onnx"


def test_half_weights_are_half_the_size(bundles):
    sizes = [
        sum(
            record.size
            for record in open_bundle(bundles("separate", fp16=fp16)).manifest.files.values()
        )
        for fp16 in (False, True)
    ]
    assert sizes[1] < 0.6 * sizes[0]


def test_batch_height_and_width_are_free(bundles):
    stages = open_bundle(bundles("separate")).manifest.stages
    shapes = {spec.name: spec.shape for spec in stages["denoiser"].inputs}
    assert shapes == {
        "x": ("batch", 4, "height", "width"),
        "hint": ("batch", 4, "height", "width"),
        "time": ("batch",),
    }
    pipeline = load_pipeline(bundles("separate"))
    photo = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    assert pipeline.upscale(photo, steps=1).shape == (120, 200, 3)


def test_the_manifest_records_the_verification(bundles):
    manifest = open_bundle(bundles("separate")).manifest
    times = {row["time"] for row in manifest.verification if row["stage"] == "denoiser"}
    assert {499, 399, 299, 200, 100, 333, 166} <= times
    assert {row["stage"] for row in manifest.verification} == set(manifest.stages)
    assert all(row["error"] <= row["bound"] for row in manifest.verification)
