"""dossr-bench predict and predict-check: what a user sees."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

import dossr
from dossr.bench.predict.check import Processor, check_file, checks
from dossr.bench.predict.check_cli import predict_check
from dossr.bench.predict.cli import predict
from dossr.bench.predict.roofline import Roofline
from dossr.bench.predict.work import Data, Layer, Work

RESULTS = Path(dossr.__file__).parent / "docs" / "results"


def run(command, *options):
    return CliRunner().invoke(command, [str(option) for option in options])


def test_results_without_a_rate_of_the_matrix_product_are_not_divided_by():
    with pytest.raises(
        ValueError, match=r"^the results hold no rate of the matrix product; measure"
    ):
        Processor({}, 1e9).line("fp32", is_fused=False)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    done = run(
        predict, "--device", "all", "--systems", "bsrgan,dasr", "--size", 64, "--out", folder
    )
    assert done.exit_code == 0, done.output
    return done.stdout, folder


def test_everything_says_that_it_is_predicted(predicted):
    stdout, folder = predicted
    document = json.loads((folder / "predictions.json").read_text())
    page = (folder / "predictions.md").read_text()
    assert document["kind"] == "predicted"
    assert {row["kind"] for row in document["rows"]} == {"predicted"}
    for text in (stdout, page):
        titles = [line for line in text.splitlines() if line.startswith("## ")]
        assert all("Predicted" in title or "Published" in title for title in titles)
        heads = [line for line in text.splitlines() if "| GMAC |" in line]
        assert heads
        assert all(head.startswith("| predicted |") for head in heads)
    assert (folder / "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_is_bounded_by_its_arithmetic_and_its_energy_by_the_power(predicted):
    document = json.loads((predicted[1] / "predictions.json").read_text())
    devices = {device["name"]: device for device in document["devices"]}
    for row in document["rows"]:
        device = devices[row["device"]]
        if row["missing"]:
            assert row["seconds"] is None
            continue
        gmac = sum(each["calls"] * each["gmac"] for each in row["networks"])
        assert row["seconds"] >= gmac * 1e9 / (device["rates"]["fp16"]["value"] * 1e12 / 2)
        assert row["energy_j"] == pytest.approx(row["seconds"] * device["power"]["value"])


def test_a_device_without_a_rate_is_not_predicted_and_the_others_are(predicted):
    stdout = predicted[0]
    assert "Not predicted: no published fp16 rate was found for core-ultra-7-155h-gpu" in stdout
    summary = stdout.split("\n\n")[1]
    assert "| Core Ultra 7 155H, GPU | - | - |" in summary
    assert "| GeForce RTX 4090 | - |" not in summary


def test_the_sources_of_every_figure_are_in_the_page(predicted):
    page = (predicted[1] / "predictions.md").read_text()
    assert "- jetson-orin-nx-16gb, int8: orin-nx-ds; derived" in page
    assert "- orin-nx-ds: NVIDIA Jetson Orin NX Series Data Sheet" in page


def test_a_bundle_is_predicted_by_stage():
    done = run(predict, "--device", "rtx-4090", "--bundle", "demo", "--size", 64, "--steps", 3)
    assert done.exit_code == 0, done.output
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [(row[0], row[1]) for row in rows[:-1]] == [
        ("| restorer", "1"), ("| encoder", "1"), ("| denoiser", "3"), ("| decoder", "1"),
    ]  # fmt: skip
    stages = sum(float(row[3]) for row in rows[:-1])
    assert float(rows[-1][3]) == pytest.approx(stages, rel=0.02)


def test_the_list_names_every_device_with_its_figures():
    done = run(predict, "--list")
    assert done.exit_code == 0
    assert "| H100 SXM5 80 GB | h100-sxm5-80gb | 67 | 494.5 | 989.5 | 989.5 | 1979 |" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "missing option '--device'; --list names the devices"),
        (["--device", "rtx4090"], "got 'rtx4090'; near it: rtx-4090"),
        (["--device", "v100-sxm2-16gb", "--precision", "int8"], "only of: fp32, fp16; choose"),
        (["--device", "rtx-4090", "--systems", "magic"], "system must be one of bsrgan"),
        (["--device", "rtx-4090", "--size", "100"], "--size must be a multiple of 64, got 100"),
        (["--device", "rtx-4090", "--bundle", "nowhere"], "nowhere"),
        (["--device", "rtx-4090", "--bundle", "demo", "--systems", "ldl"], "exclude each other"),
        (["--device", "rtx-4090", "--bundle", "demo", "--size", "99"], "multiple of 4, got 99"),
    ],
)
def test_wrong_use_is_one_line(options, message):
    done = run(predict, *options)
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert message in line


def test_the_ratio_is_predicted_over_measured():
    work = Work("stage", 2, 0, Data(), Data(), {Layer(10**9, Data(1)): 1})
    (check,) = checks("run", [work], Roofline(1e9, 1e9, 4, True), {"stage": 4.0, "files": 9.0})
    assert (check.predicted, check.measured, check.ratio) == (2.0, 4.0, 0.5)


def test_measured_networks_of_table_1_do_not_beat_their_bound_by_much(tmp_path):
    """The recorded BSRGAN runs of all backends, at a bandwidth that hardly limits them."""
    document = json.loads((RESULTS / "table1-cpu" / "results.json").read_text())
    document["rows"] = [row for row in document["rows"] if row["system"] == "bsrgan"]
    file = tmp_path / "bsrgan.json"
    file.write_text(json.dumps(document))
    found = check_file(file, 50e9)
    assert [(check.run, check.stage) for check in found] == [
        (f"BSRGAN, {backend}", "restorer")
        for backend in ("torch fp32", "onnx fp32", "openvino fp32", "openvino bf16")
    ]  # fmt: skip
    assert 0.4 < found[0].ratio < 0.7  # torch
    assert all(0.9 < check.ratio < 1.05 for check in found[1:])


def test_torch_compile_is_bounded_as_an_engine_and_eager_torch_is_not(tmp_path):
    """Of the recorded pipeline, and of its eager bf16 run under the name of a compiled one."""
    document = json.loads((RESULTS / "pipeline-openvino.json").read_text())
    (eager,) = [each for each in document["contenders"] if each["name"] == "torch-bf16"]
    document["contenders"] = [eager, {**eager, "name": "torch-compile-bf16"}]
    file = tmp_path / "pipeline.json"
    file.write_text(json.dumps(document))
    found = check_file(file, 34.9e9)
    half = len(found) // 2
    assert {each.run for each in found[half:]} == {"released procedure, torch.compile bf16"}
    for unfused, fused in zip(found[:half], found[half:], strict=True):
        assert fused.predicted < unfused.predicted


def test_results_of_another_model_are_refused(tmp_path):
    document = json.loads((RESULTS / "pipeline-openvino.json").read_text())
    document["contenders"] = [c for c in document["contenders"] if c["kind"] == "bundle"][:1]
    document["contenders"][0]["stage_gmac"]["decoder"] *= 2
    file = tmp_path / "other.json"
    file.write_text(json.dumps(document))
    done = run(predict_check, file, "--bandwidth", 20)
    assert done.exit_code == 2
    assert "the results must be of the official model" in done.stderr


def test_a_file_that_holds_no_results_is_one_line(tmp_path):
    file = tmp_path / "no.json"
    file.write_text("{}")
    done = run(predict_check, file, "--bandwidth", 20)
    assert done.exit_code == 2
    assert f"{file} must be" in done.stderr
    assert "Traceback" not in done.output


def test_nothing_to_check_is_wrong_use():
    done = run(predict_check)
    assert done.exit_code == 2
    assert "give RESULTS, --bundle or --paper" in done.stderr


def test_a_bundle_without_its_configuration_is_refused(toy_bundle):
    done = run(predict, "--device", "rtx-4090", "--bundle", toy_bundle)
    assert done.exit_code == 2
    assert "the manifest must hold the model's configuration" in done.stderr


def test_a_bundle_is_timed_and_compared_stage_by_stage(tmp_path):
    file = tmp_path / "check.json"
    done = run(
        predict_check, "--bundle", "demo", "--size", 16, "--steps", 1, "--repetitions", 1,
        "--bandwidth", 20, "--json", file,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = json.loads(file.read_text())["rows"]
    assert [row["stage"] for row in rows] == ["restorer", "encoder", "denoiser", "decoder"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["predicted"] / row["measured"])
    assert "| stage | predicted, at least [s] | measured [s] |" in done.stdout
