"""dossr-bench sizes: seconds and memory per megapixel of the result."""

import json

import pytest
from click.testing import CliRunner

from dossr.bench.sides import Side
from dossr.bench.sizes import planned, sizes


@pytest.fixture(scope="module")
def measured(toy_bundle, tmp_path_factory):
    file = tmp_path_factory.mktemp("sizes") / "sizes.json"
    done = CliRunner().invoke(
        sizes,
        [str(toy_bundle), "--size", "64", "--size", "192", "--steps", "1", "--json", str(file)],
    )
    assert done.exit_code == 0, done.output
    return done.stdout, json.loads(file.read_text())


def test_every_size_is_a_row_per_megapixel_of_the_result(measured):
    rows = measured[1]["rows"]
    assert [(row["size"], row["device"], row["precision"]) for row in rows] == [
        (64, "cpu", "fp32"), (192, "cpu", "fp32"),
    ]  # fmt: skip
    for row in rows:
        megapixels = (4 * row["size"]) ** 2 / 1e6
        assert row["seconds_per_megapixel"] * megapixels == pytest.approx(row["p50_s"])
        assert row["bytes_per_megapixel"] * megapixels == pytest.approx(row["memory_bytes"])
        assert row["memory_bytes"] > row["mapped_bytes"] > 0
        assert row["precisions"]["denoiser"] == "fp32"
        assert row["failed"] == ""


def test_the_table_and_the_document_say_how_it_was_measured(measured, toy_bundle):
    stdout, document = measured
    assert document["provenance"]["cpu"]
    assert (document["steps"], document["tile"]) == (1, 128)
    table, notes = stdout.strip().split("\n\n")
    assert f"\n| {toy_bundle}, fp32, cpu | 192 |" in table
    assert notes == "1 steps, tiles of 128; seconds of an image without files"


def test_a_bundle_that_does_not_run_says_why_and_the_others_go_on(fresh_bundle, toy_bundle):
    (fresh_bundle / "decoder.cpu.onnx").write_bytes(b"no network")
    options = ["--size", "64", "--steps", "1", "--repetitions", "0"]
    done = CliRunner().invoke(sizes, [str(fresh_bundle), str(toy_bundle), *options])
    assert done.exit_code == 1
    broken, good = done.stdout.splitlines()[2:4]
    assert "| failed: BundleError: " in broken
    assert "failed" not in good


def test_cuda_graphs_are_recorded_before_a_gpu_is_timed(toy_bundle):
    sides = [Side(device, "auto") for device in ("cpu", "openvino:GPU", "cuda", "tensorrt:1")]
    for repetitions, expected in ((1, [0, 0, 3, 3]), (0, [0, 0, 0, 0])):
        rows = planned(toy_bundle, sides, (64,), (1, repetitions))
        assert [call.warmup for _, call in rows] == expected


def test_no_bundle_is_wrong_use(tmp_path):
    done = CliRunner().invoke(sizes, [str(tmp_path)])
    assert done.exit_code == 2
    assert "is not a bundle" in done.stderr
