"""dossr-bench table1, as a user sees it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from dossr.bench.cli import main  # noqa: E402

SMALL = ("--reduced", "--size", "64", "--repetitions", "2", "--systems")


@pytest.fixture(scope="module")
def table1():
    """dossr-bench table1: exit code, stdout and stderr."""

    def invoke(*arguments):
        result = CliRunner().invoke(main, ["table1", *map(str, arguments)], prog_name="dossr-bench")
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture(scope="module")
def composed(table1, tmp_path_factory):
    """A results file of bsrgan under compose, on torch and onnx."""
    file = tmp_path_factory.mktemp("composed") / "results.json"
    code, stdout, stderr = table1(
        *SMALL, "bsrgan", "--backend", "torch", "--backend", "onnx", "--json", file
    )
    assert code == 0, stderr
    assert stdout.startswith("bsrgan        compose  torch fp32 cpu  ")
    return file


def _rows(file):
    return json.loads(file.read_text())["rows"]


def _one_line(stderr):
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("dossr-bench: ")
    return stderr


def test_help_needs_no_torch():
    program = (
        "import sys\n"
        "for name in ('torch', 'diffusers', 'transformers', 'onnx'): sys.modules[name] = None\n"
        "from dossr.bench.cli import main\nmain(['table1', '--help'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--protocol" in done.stdout


def test_counting_gives_the_figures_of_the_table(table1, tmp_path):
    file = tmp_path / "deep" / "count.json"
    code, stdout, _ = table1("--protocol", "count", "--systems", "bsrgan,dossr-1", "--json", file)
    assert code == 0
    assert stdout.startswith("bsrgan        count    16.7 M  294 GMAC\n")
    for row in _rows(file):
        assert row["parameters"] / 1e6 == pytest.approx(row["official_parameters"], rel=1e-6)
        assert row["gmac"] == pytest.approx(row["official_gmac"], rel=1e-2)
        assert row["latency_s"] is None
        assert row["device"] == "meta"


def test_a_composed_row_is_the_sum_of_its_parts(composed):
    rows = _rows(composed)
    assert [(row["backend"], row["protocol"]) for row in rows] == [
        ("torch", "compose"),
        ("onnx", "compose"),
    ]
    for row in rows:
        parts = sum(stage["calls"] * stage["seconds"] for stage in row["stages"])
        assert row["latency_s"] == pytest.approx(parts + row["loop_s"])
        assert row["tmac_s"] == pytest.approx(row["gmac"] / 1e3 / row["latency_s"])
        assert row["utilization"] > 0
        assert row["io_s"] > 0
        assert row["p90_s"] is None
        assert row["failed"] == ""
    assert rows[0]["stages"][0]["export_s"] is None
    assert rows[1]["stages"][0]["export_s"] > 0


def test_a_second_run_measures_nothing(table1, composed):
    before = _rows(composed)
    code, _, stderr = table1(
        *SMALL, "bsrgan", "--backend", "torch", "--backend", "onnx", "--json", composed
    )
    assert code == 0
    assert stderr == "note: 2 rows are already measured and kept\n"
    assert _rows(composed) == before


def test_replay_runs_every_step(table1, tmp_path):
    file = tmp_path / "replay.json"
    for system, backend in (("dossr-1", "torch"), ("bsrgan", "onnx")):
        code, _, stderr = table1(
            *SMALL, system, "--protocol", "replay", "--backend", backend, "--json", file
        )
        assert code == 0, stderr
    for row in _rows(file):
        parts = sum(stage["calls"] * stage["seconds"] for stage in row["stages"])
        assert 0 < parts + row["loop_s"] == pytest.approx(row["latency_s"], rel=0.5)
        assert row["p90_s"] >= row["latency_s"]
        assert row["cold_s"] > 0
        assert row["peak_bytes"] > 0


def test_what_systems_share_is_timed_once_and_said(table1, tmp_path):
    file = tmp_path / "shared.json"
    code, _, stderr = table1(*SMALL, "bsrgan,ldl", "--json", file)
    assert code == 0, stderr
    bsrgan, ldl = _rows(file)
    assert bsrgan["stages"] == ldl["stages"]
    assert "restorer timed with bsrgan" in ldl["note"]
    assert "timed with" not in bsrgan["note"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")
def test_a_backend_that_is_not_there_fails_its_rows_with_a_reason(table1, tmp_path):
    file = tmp_path / "results.json"
    code, stdout, _ = table1(
        *SMALL, "bsrgan", "--device", "cuda", "--backend", "torch", "--backend", "torch-fp16",
        "--backend", "onnx", "--backend", "onnx-fp16", "--json", file,
    )  # fmt: skip
    assert code == 1
    rows = _rows(file)
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "fp32", "fp16"]
    for row in rows:
        assert row["failed"] == f"torch {torch.__version__} sees no CUDA device"
        assert row["latency_s"] is None
        assert row["gmac"] > 0
        assert row["failed"] in stdout


@pytest.mark.parametrize(
    ("backend", "precision", "reason"),
    [
        ("torch-tf32", "tf32", "TF32 must run on a GPU, got the CPU; omit torch-tf32"),
        (
            "onnx-fp16",
            "fp16",
            "onnx-fp16 must run on a GPU, got the CPU, where its graphs compute in float32; use onnx",
        ),
    ],
)
def test_a_precision_that_is_float32_on_a_cpu_fails_its_row(
    table1, tmp_path, backend, precision, reason
):
    file = tmp_path / "results.json"
    code, _, _ = table1(*SMALL, "bsrgan", "--backend", backend, "--json", file)
    assert code == 1
    (row,) = _rows(file)
    assert (row["precision"], row["failed"]) == (precision, reason)


@pytest.mark.parametrize("name", ["machine", "cpu", "gpu", "sources", "versions"])
def test_a_file_of_another_origin_is_refused_and_left_alone(table1, composed, tmp_path, name):
    document = json.loads(composed.read_text())
    document["provenance"][name] = "another"
    file = tmp_path / "foreign.json"
    file.write_text(json.dumps(document))
    code, _, stderr = table1(*SMALL, "bsrgan", "--json", file)
    assert code == 2
    assert f"{name} is another there and " in _one_line(stderr)
    assert json.loads(file.read_text()) == document


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', "[1]", "\x00"])
def test_what_is_no_results_file_is_refused(table1, tmp_path, text):
    file = tmp_path / "results.json"
    file.write_text(text)
    code, _, stderr = table1(*SMALL, "bsrgan", "--json", file)
    assert code == 2
    assert "must be a results file" in _one_line(stderr)
    assert file.read_text() == text


def test_overwrite_starts_a_file_anew(table1, tmp_path):
    file = tmp_path / "results.json"
    file.write_text("no results")
    arguments = ("--protocol", "count", "--reduced", "--systems", "bsrgan", "--json", file)
    assert table1(*arguments, "--overwrite")[0] == 0
    assert [row["system"] for row in _rows(file)] == ["bsrgan"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--systems", "esrgan"), "system must be one of bsrgan, "),
        (("--size", "100"), "--size must be a multiple of 64, got 100"),
        (("--backend", "jax"), "'jax' is not one of 'torch', "),
        (("--device", "tensorrt"), "'tensorrt' is not one of 'cpu', 'cuda'"),
        (("--json", "/dev/null/results.json"), "cannot write to /dev/null"),
        (("--out", "/dev/null/report"), "cannot write to /dev/null/report"),
    ],
)
def test_wrong_use_is_one_line(table1, arguments, message):
    code, stdout, stderr = table1(*arguments)
    assert code == 2
    assert message in _one_line(stderr)
    assert stdout == ""


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_keeps_finished_rows_and_leaves_no_process(tmp_path, number, heeding):
    file = tmp_path / "results.json"
    mark = f"DOSSR_TEST={tmp_path}"
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dossr.bench.cli",
            "table1",
            *SMALL,
            "bsrgan,dossr-1",
            "--json",
            file,
        ],
        env={**os.environ, "DOSSR_TEST": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("bsrgan")
        next(line for line in process.stderr if line.startswith("dossr-1: counting"))
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.endswith("stopped\n")
    assert [row["system"] for row in _rows(file)] == ["bsrgan"]
    assert not [path for path in Path("/proc").glob("[0-9]*") if mark in _environment(path)]


def _environment(process):
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        return ""
