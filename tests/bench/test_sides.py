"""Which devices and precisions make sides of a comparison."""

import click
import pytest

from dossr.bench.sides import Side, find_sides, open_side, precision_text


@pytest.mark.parametrize(
    ("devices", "precisions", "sides"),
    [
        (["cpu"], ["auto"], ["cpu, fp32"]),
        (["cpu"], ["auto", "fp32"], ["cpu, fp32"]),
        (["cuda", "tensorrt"], ["auto"], ["cuda", "tensorrt"]),
        (["openvino", "openvino"], ["auto"], ["openvino, auto"]),
        (["cpu", "openvino"], ["fp32", "bf16"], ["cpu, fp32", "openvino, fp32", "openvino, bf16"]),
        (["openvino"], ["bf16,decoder=fp32"], ["openvino, bf16,decoder=fp32"]),
    ],
)
def test_every_device_runs_once_in_every_precision_that_it_has(devices, precisions, sides):
    assert [side.name for side in find_sides(devices, precisions)] == sides


@pytest.mark.parametrize(
    ("devices", "precisions", "message"),
    [
        (["cpu"], ["bf16"], "--precision bf16 is not for the device cpu"),
        (["cpu", "openvino"], ["bf16"], "--precision bf16 is not for the device cpu"),
        (["tensorrt"], ["auto", "fp32"], "--precision fp32 is not for the device tensorrt"),
        (["openvino"], ["auto", "half"], "--precision must be auto, fp32, bf16, int8"),
    ],
)
def test_what_would_have_no_side_is_refused(devices, precisions, message):
    with pytest.raises(click.UsageError, match=f"^{message}"):
        find_sides(devices, precisions)


@pytest.mark.parametrize(("device", "extra"), [("cuda", "cuda"), ("cpu", "cpu"), ("auto", "cpu")])
def test_a_missing_package_is_one_line_with_the_extras_to_install(monkeypatch, device, extra):
    def load_pipeline(*_, **__):
        raise ModuleNotFoundError("No module named 'x'")

    monkeypatch.setattr("dossr.bench.sides.load_pipeline", load_pipeline)
    with pytest.raises(
        click.UsageError, match=rf"^No module named 'x'; install it with: pip install 'dossr\[bench,{extra}\]'$"
    ):  # fmt: skip
        open_side(None, device, ())


@pytest.mark.parametrize(
    ("asked", "taken", "text"),
    [
        ("fp32", {"encoder": "fp32", "decoder": "fp32"}, "fp32"),
        ("auto", {"encoder": "bf16", "decoder": "bf16"}, "auto (bf16)"),
        ("auto", {"encoder": "bf16", "x": "bf16", "decoder": "fp32"}, "auto (bf16, decoder fp32)"),
        ("auto", {}, "auto"),
    ],
)
def test_the_precision_taken_stands_beside_the_one_asked_for(asked, taken, text):
    assert precision_text(asked, taken) == text


def test_a_side_of_a_gpu_has_the_precision_of_its_bundle():
    assert Side("cuda", "auto").name == "cuda"
