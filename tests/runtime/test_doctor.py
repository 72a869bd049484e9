"""dossr-doctor on this machine, and its conclusions for described machines."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dossr import __version__
from dossr.runtime import doctor
from dossr.runtime.engines.device import DEVICES
from dossr.runtime.hardware import Gpu, GpuError, Jetson, find_gpu
from dossr.runtime.launch import python_command

ORIN = Gpu("Orin", "8.7", 64 << 30, True, "12.6", "540.4.0")
RTX = Gpu("NVIDIA GeForce RTX 4060 Laptop GPU", "8.9", 8 << 30, False, "13.0", "580.65.06")
JETSON = Jetson("NVIDIA Jetson AGX Orin", "6.2.1", "MAXN")


def _run(*arguments):
    return subprocess.run([sys.executable, "-m", "dossr.runtime.doctor", *arguments],
                          capture_output=True, text=True, timeout=300)  # fmt: skip


@pytest.fixture(scope="module")
def here():
    done = _run("--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_the_report_of_this_machine_is_complete(here):
    assert here["dossr"] == __version__
    assert {name for name in DEVICES if ":" not in name} <= here["devices"].keys() <= set(DEVICES)
    assert (here["gpu"] is None) == bool(here["gpu_problem"])
    for device in here["devices"].values():
        assert device["works"] != bool(device["reason"])
        assert "\n" not in device["reason"] + device["advice"]


def test_the_cpu_works_where_onnx_runtime_is(here):
    pytest.importorskip("onnxruntime")
    cpu = here["devices"]["cpu"]
    assert (cpu["works"], cpu["reason"], cpu["advice"]) == (True, "", "")
    assert cpu["errors"].keys() == {"restorer", "encoder", "denoiser", "decoder"}
    assert max(error for stage in cpu["errors"].values() for error in stage.values()) < 1e-3
    assert "CPUExecutionProvider" in here["providers"]
    assert "onnxruntime" in " ".join(here["packages"])


def test_a_health_check_tries_one_device_and_exits_with_what_it_found():
    healthy, ill = _run("--device", "cpu", "--json"), _run("--device", "tensorrt", "--json")
    assert json.loads(healthy.stdout)["devices"].keys() == {"cpu"}
    works = json.loads(ill.stdout)["devices"]["tensorrt"]["works"]
    assert (healthy.returncode, ill.returncode) == (0, int(not works))


def test_openvino_works_where_it_is_and_says_what_the_processor_computes(here):
    found = here["openvino"]
    assert here["devices"]["openvino"]["works"]
    assert (
        max(max(stage.values()) for stage in here["devices"]["openvino"]["errors"].values()) < 1e-4
    )
    assert "FP32" in found["capabilities"]
    assert found["precision"] in ("bf16", "fp32")
    assert found["version"].startswith(here["packages"]["openvino"])
    for kind in ("GPU", "NPU"):
        assert (f"openvino:{kind}" in here["devices"]) == (kind in found["devices"])


def test_a_gpu_that_openvino_finds_is_tried():
    assert doctor._other_plugins({"openvino": {"devices": "CPU, GPU.0, GPU.1, NPU"}}) == [
        "openvino:GPU",
        "openvino:NPU",
    ]
    assert doctor._other_plugins({"missing": "openvino"}) == []


def test_without_a_gpu_it_says_so_and_what_to_do(here):
    if here["gpu"]:
        pytest.skip("this machine has a GPU")
    with pytest.raises(GpuError) as raised:
        find_gpu()
    for name in ("cuda", "tensorrt"):
        device = here["devices"][name]
        assert str(raised.value) in device["reason"]
        assert "driver" in device["advice"]


def test_text_says_the_same_in_a_few_lines(here):
    done = _run()
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr
    for name, device in here["devices"].items():
        works = "works: the demo model is within" if device["works"] else "does not work"
        assert any(
            line.split()[: 2 + len(works.split())] == ["--device", name, *works.split()]
            for line in done.stdout.splitlines()
        )
    assert len(done.stdout.splitlines()) < 40


def test_wrong_use_is_one_line():
    result = CliRunner().invoke(doctor.main, ["--nonsense"])
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1


def test_it_imports_no_engine_library():
    program = (
        "import sys, dossr.runtime.doctor\n"
        "print([n for n in ('onnxruntime', 'openvino', 'cupy', 'tensorrt', 'torch', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "ends the process"),
        ("import sys; sys.exit('libsomething.so is broken')", "libsomething.so is broken"),
        ("print('not JSON')", "ends the process"),
        ("import time; time.sleep(60)", "does not run within 2 seconds"),
    ],
)
def test_a_library_that_crashes_or_hangs_is_a_line(monkeypatch, tmp_path, program, reason):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(doctor, "_TIMEOUT", 2)
    assert reason in doctor._try("cuda")["error"]


def test_a_device_is_tried_with_the_installed_code_and_not_that_of_the_folder(
    monkeypatch, tmp_path
):
    (tmp_path / "dossr").mkdir()
    (tmp_path / "dossr" / "__init__.py").write_text("raise SystemExit('the code of this folder')")
    monkeypatch.chdir(tmp_path)
    program = "import dossr; print(dossr.__version__)"
    done = subprocess.run(python_command(program), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("packages", "gpu", "jetson", "expected"),
    [
        ({"onnxruntime-gpu": "1.29", "cupy-cuda13x": "14.2", "tensorrt-cu13": "11.4.0.106"}, RTX, None, []),
        ({"onnxruntime": "1.32", "onnxruntime-gpu": "1.29"}, RTX, None, ["onnxruntime and onnxruntime-gpu overwrite"]),
        ({"cupy-cuda12x": "14", "cupy-cuda13x": "14"}, RTX, None, ["cupy-cuda12x and cupy-cuda13x overwrite"]),
        ({"cupy-cuda13x": "14"}, ORIN, JETSON, ["cupy-cuda13x needs a driver for CUDA 13"]),
        ({"cupy-cuda12x": "14", "tensorrt-cu13": "11.4.1"}, RTX, None, ["CuPy is for CUDA 12 and TensorRT for CUDA 13"]),
        ({"tensorrt-cu13-libs": "11.4.1", "tensorrt-cu13-bindings": "11.3.0"}, RTX, None, ["11.3.0, 11.4.1; install one version"]),
        ({"tensorrt": "8.6.1"}, RTX, None, ["must be 10.3 or newer, got 8.6.1"]),
        ({"tensorrt": "11.3.0.99"}, ORIN, JETSON, ["does not support Jetson"]),
        ({"tensorrt": "10.3.0"}, ORIN, JETSON, []),
        ({"tensorrt": "10.3.0"}, ORIN, Jetson("Orin", "6.2", "15W"), ["the power mode is 15W"]),
        ({}, None, None, []),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named(packages, gpu, jetson, expected):
    notes = doctor.mismatches(packages, gpu, jetson)
    assert len(notes) == len(expected)
    for note, words in zip(notes, expected, strict=True):
        assert words in note


def test_a_jetson_reads_well():
    report = doctor.Report(
        dossr="1", python="3.10", system="Linux aarch64", gpu=ORIN, gpu_problem="", jetson=JETSON,
        packages={"tensorrt": "10.3.0"}, providers=["CPUExecutionProvider"], openvino={},
        devices={"tensorrt": doctor.DeviceReport(True, errors={"decoder": {"image": 0.0012}})}, notes=["a note"],
    )  # fmt: skip
    assert doctor.lines(report) == [
        "dossr 1, Python 3.10, Linux aarch64",
        "Jetson: NVIDIA Jetson AGX Orin, JetPack 6.2.1, power MAXN",
        "GPU: Orin, compute capability 8.7, 64.0 GiB shared memory, driver 540.4.0 (CUDA 12.6)",
        "Packages: tensorrt 10.3.0",
        "ONNX Runtime providers: CPUExecutionProvider",
        "",
        "--device tensorrt      works: the demo model is within 1e-03 of torch",
        "\nnote: a note",
    ]
