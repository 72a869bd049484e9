"""The exported bundle gives the reference's numbers, which is the main promise of this project."""

import numpy as np
import onnx
import pytest

from dossr.runtime import load_pipeline
from dossr.runtime.bundle import open_bundle

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


@pytest.mark.parametrize("name", CASES)
def test_the_exported_networks_give_the_references_images(bundles, golden, golden_errors, name):
    bundle = bundles("shared" if "shared" in name else "separate")
    worst, levels, _ = golden_errors(bundle, np.load(golden / f"{name}.npz"), *_settings(name))
    assert {key: error for key, error in worst.items() if not error <= BOUND} == {}
    assert levels <= 1  # the reference truncates to 8 bits, we round


def test_the_half_precision_image_is_within_50_db(bundles, golden, golden_errors):
    data = np.load(golden / "tiny_o3_s5_wavelet.npz")
    images = [
        golden_errors(bundles("separate", fp16=fp16), data, 3, "wavelet")[2]
        for fp16 in (False, True)
    ]
    psnr = -10.0 * np.log10(np.mean((images[0] - images[1]) ** 2))
    assert psnr >= 50.0


def test_opset_18_gives_the_same_image(bundles, golden, golden_errors):
    data = np.load(golden / "tiny_o3_s5_wavelet.npz")
    worst, _, _ = golden_errors(bundles("separate", fp16=True, opset=18), data, 3, "wavelet")
    assert worst["latent"] <= 1e-2


def test_the_separate_encoder_is_a_stage_only_where_it_differs(bundles):
    assert "condition" in open_bundle(bundles("separate")).manifest.stages
    assert "condition" not in open_bundle(bundles("shared")).manifest.stages


def test_attention_and_group_norm_stay_whole_in_opset_23(bundles):
    model = onnx.load(bundles("separate") / "denoiser.onnx", load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Attention") == 46  # 16 transformers of the UNet, 7 of the ControlNet
    assert kinds.count("GroupNormalization") == 88
    assert "Softmax" not in kinds
    old = onnx.load(
        bundles("separate", fp16=True, opset=18) / "denoiser.onnx", load_external_data=False
    )
    assert not {"Attention", "GroupNormalization"} & {node.op_type for node in old.graph.node}


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
