"""dossr-bench start: processes of dossr-run from start to end."""

import json

import pytest
from click.testing import CliRunner

from dossr.bench.sides import Side
from dossr.bench.start import Row, start, table

OPTIONS = ["--size", "16", "--steps", "1", "--images", "2", "--repetitions", "2"]


def test_a_side_has_a_cold_start_warm_ones_and_a_folder(toy_bundle, tmp_path):
    file = tmp_path / "start.json"
    done = CliRunner().invoke(start, [str(toy_bundle), *OPTIONS, "--json", str(file)])
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert document["provenance"]["cpu"]
    (row,) = document["rows"]
    assert (row["device"], row["precisions"]["denoiser"]) == ("cpu", "fp32")
    assert len(row["warm_s"]) == 2
    assert min(row["cold_s"], *row["warm_s"], row["folder_s_per_image"]) > 0.05  # Python alone
    assert row["folder_s_per_image"] < row["warm_p50_s"]  # two images share a start
    assert done.stdout.splitlines()[2].startswith("| fp32, cpu | ")
    assert "16 x 16 pixels, 1 steps" in done.stdout


def test_a_run_that_fails_gives_its_last_message(fresh_bundle):
    (fresh_bundle / "decoder.cpu.onnx").write_bytes(b"no network")
    done = CliRunner().invoke(start, [str(fresh_bundle), *OPTIONS])
    assert done.exit_code == 1
    assert "| failed: dossr-run: " in done.stdout.splitlines()[2]
    assert "decoder.cpu.onnx" in done.stdout.splitlines()[2]


def test_ratios_are_those_to_the_cpu():
    rows = [
        Row(Side("cpu", "fp32"), {"decoder": "fp32"}, 5.0, [4.0, 3.0, 5.0], 2.0),
        Row(Side("openvino", "auto"), {"decoder": "bf16"}, 8.0, [2.0], 0.5),
    ]
    *_, cpu, openvino = table(rows).splitlines()
    assert cpu == "| fp32, cpu | 5.00 | 4.00 | 1.00 | 2.00 | 1.00 |"
    assert openvino == "| auto (bf16), openvino | 8.00 | 2.00 | 2.00 | 0.500 | 4.00 |"
    assert table(rows[1:]).splitlines()[-1].count("| - |") == 2


@pytest.mark.parametrize("option", [["--device", "cpu", "--precision", "bf16"], ["--images", "0"]])
def test_wrong_use_is_refused_before_anything_runs(option):
    done = CliRunner().invoke(start, option)
    assert done.exit_code == 2
    assert done.stdout == ""
