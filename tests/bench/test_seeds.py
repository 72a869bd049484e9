"""dossr-bench seeds: one run with several seeds against as many single runs."""

import json
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from dossr.bench.seeds import Pair, measure_calls, seeds, table
from dossr.bench.sides import Side


def test_both_ways_are_measured_and_the_bytes_compared(toy_bundle, tmp_path):
    file = tmp_path / "seeds.json"
    options = ["--seeds", "2", "--size", "32", "--steps", "1", "--json", str(file)]
    done = CliRunner().invoke(seeds, [str(toy_bundle), *options])
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert document["provenance"]["cpu"]
    processes, calls = document["rows"]
    for row in (processes, calls):
        assert row["is_equal"]
        assert row["time_ratio"] == pytest.approx(row["seeds_s"][0] / row["single_s"][0])
        assert row["cpu_ratio"] == pytest.approx(row["seeds_cpu_s"][0] / row["single_cpu_s"][0])
    assert processes["cpu_ratio"] < 1  # two processes start, against one
    ratio = processes["seeds_bytes"] / processes["single_bytes"]
    assert processes["memory_ratio"] == pytest.approx(ratio)
    assert 0.5 < ratio < 2
    assert "| fp32, cpu, 2 processes |" in done.stdout


@pytest.mark.parametrize(("device", "untimed"), [("cpu", 1), ("cuda", 4)])
def test_cuda_graphs_are_recorded_before_a_gpu_is_timed(monkeypatch, device, untimed):
    asked = []
    image = np.zeros((8, 8, 3), np.uint8)

    def upscale(_image, *, seed=None, seeds=None, **_):
        asked.append((seed, seeds))
        return [image]

    monkeypatch.setattr("dossr.bench.seeds.open_side", lambda *_: SimpleNamespace(upscale=upscale))
    measure_calls(Pair(Side(device, "auto"), "2 calls"), None, image, (5, 2, 1), lambda n: None)
    assert asked == [(None, None)] * untimed + [(42, None), (43, None), (42, 2)]


def test_images_that_differ_and_failures_are_shown():
    pairs = [
        Pair(Side("cpu", "fp32"), "8 calls", [8.0], [6.0], [16.0], [10.0], is_equal=False),
        Pair(Side("cpu", "fp32"), "8 processes", failed="no network"),
    ]
    _, _, differing, failed = table(pairs).splitlines()
    assert differing == "| fp32, cpu, 8 calls | 8.00 | 6.00 | 0.750 | 0.625 | - | - | - | no |"
    assert "| failed: no network |" in failed
    assert failed.endswith("| - |")


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
def test_a_device_that_is_not_there_fails_its_rows_and_the_others_are_kept(toy_bundle, tmp_path):
    file = tmp_path / "seeds.json"
    options = ["--seeds", "2", "--size", "32", "--steps", "1", "--json", str(file)]
    done = CliRunner().invoke(
        seeds, [str(toy_bundle), "--device", "cuda", "--device", "cpu", *options]
    )
    assert done.exit_code == 1, done.output
    rows = json.loads(file.read_text())["rows"]
    assert ["cupy" in row["failed"] for row in rows] == [True, True, False, False]
    assert [len(row["seeds_s"]) for row in rows] == [0, 0, 1, 1]
    assert "| fp32, cpu, 2 calls |" in done.stdout
