"""--precision: one for all stages, others for single ones, and nothing else."""

import pytest

from dossr.runtime import load_pipeline
from dossr.runtime.engines.precision import PrecisionOptions, parse_precision, summary


def test_words_are_a_precision_or_one_of_a_stage():
    assert parse_precision([]) == PrecisionOptions("auto", {})
    assert parse_precision("bf16") == PrecisionOptions("bf16", {})
    both = parse_precision(("decoder=fp32", "bf16"))
    assert [both.of("decoder"), both.of("denoiser")] == ["fp32", "bf16"]
    assert parse_precision("decoder=fp32").of("denoiser") == "auto"


@pytest.mark.parametrize("word", ["", "fp16", "=fp32", "decoder=", "decoder=x", "fp32=decoder"])
def test_another_word_is_named(word):
    with pytest.raises(
        ValueError, match=r"must be auto, fp32, bf16, int8 or STAGE=PRECISION, got "
    ):
        parse_precision(word)


def test_two_for_all_stages_contradict_each_other():
    with pytest.raises(ValueError, match="must be one for all stages, got fp32 and bf16"):
        parse_precision(["fp32", "bf16"])


def test_onnx_runtime_computes_in_fp32_only(toy_bundle):
    for asked in ("auto", "fp32", "decoder=fp32"):
        precision = load_pipeline(toy_bundle, precision=asked).precision
        assert precision == dict.fromkeys(("restorer", "encoder", "denoiser", "decoder"), "fp32")
    for asked in ("bf16", "decoder=bf16"):
        with pytest.raises(
            ValueError, match=r"bf16 is not for the device cpu, .* --device openvino"
        ):
            load_pipeline(toy_bundle, precision=asked)


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "tensorrt-rtx", "auto"])
def test_other_devices_take_the_bundles(toy_bundle, device):
    with pytest.raises(
        ValueError, match=f"precision fp32 is not for the device {device}, which ta"
    ):
        load_pipeline(toy_bundle, device, precision="fp32")


def test_a_summary_begins_with_what_most_stages_take():
    assert summary({"a": "bf16", "b": "bf16"}) == "bf16"
    assert summary({"a": "fp32", "b": "bf16", "c": "bf16"}) == "bf16, fp32 for the a"
    assert summary({"a": "bf16", "b": "fp32", "c": "fp32"}) == "fp32, bf16 for the a"
