"""dossr-doctor and what it knows: this machine without surprises, others by their descriptions."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dossr import __version__
from dossr.runtime import doctor
from dossr.runtime.engines.device import DEVICES
from dossr.runtime.engines.tensorrt import support
from dossr.runtime.hardware import Gpu, GpuError, Jetson, find_gpu, jetpack_of

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
    assert here["devices"].keys() == set(DEVICES)
    assert (here["gpu"] is None) == bool(here["gpu_problem"])
    for device in here["devices"].values():
        assert device["works"] != bool(device["reason"])
        assert "\n" not in device["reason"] + device["advice"]


def test_the_cpu_works_where_onnx_runtime_is(here):
    pytest.importorskip("onnxruntime")
    assert here["devices"]["cpu"] == {"works": True, "reason": "", "advice": ""}
    assert "CPUExecutionProvider" in here["providers"]
    assert "onnxruntime" in " ".join(here["packages"])


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
        works = "works" if device["works"] else "does not work"
        assert any(
            line.split() == ["--device", name, *works.split()] for line in done.stdout.splitlines()
        )
    assert len(done.stdout.splitlines()) < 40


def test_wrong_use_is_one_line():
    result = CliRunner().invoke(doctor.main, ["--nonsense"])
    assert result.exit_code == 2
    assert len(result.output.strip().splitlines()) == 1


def test_it_is_light():
    program = (
        "import sys, dossr.runtime.doctor\n"
        "print([n for n in ('onnxruntime', 'cupy', 'tensorrt', 'torch', 'PIL') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os; os.abort()", "end the process"),
        ("import sys; sys.exit('libsomething.so is broken')", "libsomething.so is broken"),
        ("print('not JSON')", "end the process"),
        ("import time; time.sleep(60)", "do not start in 2 seconds"),
    ],
)
def test_a_library_that_crashes_or_hangs_is_a_line(monkeypatch, tmp_path, program, reason):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(script))
    monkeypatch.setattr(doctor, "_PATIENCE", 2)
    assert reason in doctor._tried("cuda")["error"]


@pytest.mark.parametrize(
    ("packages", "gpu", "jetson", "expected"),
    [
        ({"onnxruntime-gpu": "1.29", "cupy-cuda13x": "14.2", "tensorrt-cu13": "11.4.0.106"}, RTX, None, []),
        ({"onnxruntime": "1.32", "onnxruntime-gpu": "1.29"}, RTX, None, ["onnxruntime and onnxruntime-gpu overwrite"]),
        ({"cupy-cuda12x": "14", "cupy-cuda13x": "14"}, RTX, None, ["cupy-cuda12x and cupy-cuda13x overwrite"]),
        ({"cupy-cuda13x": "14"}, ORIN, JETSON, ["cupy-cuda13x needs a driver for CUDA 13"]),
        ({"cupy-cuda12x": "14", "tensorrt-cu13": "11.4.1"}, RTX, None, ["CuPy is for CUDA 12 and TensorRT for CUDA 13"]),
        ({"tensorrt-cu13-libs": "11.4.1", "tensorrt-cu13-bindings": "11.3.0"}, RTX, None, ["11.3.0, 11.4.1; install one"]),
        ({"tensorrt": "8.6.1"}, RTX, None, ["must be 10.3 or newer, got 8.6.1"]),
        ({"tensorrt": "11.3.0.99"}, ORIN, JETSON, ["does not serve Jetson"]),
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
        packages={"tensorrt": "10.3.0"}, providers=["CPUExecutionProvider"], opset=18,
        devices={"tensorrt": doctor.DeviceReport(True)}, notes=["a note"],
    )  # fmt: skip
    assert doctor.lines(report) == [
        "dossr 1, Python 3.10, Linux aarch64",
        "Jetson: NVIDIA Jetson AGX Orin, JetPack 6.2.1, power MAXN",
        "GPU: Orin, compute capability 8.7, 64.0 GiB shared memory, driver 540.4.0 (CUDA 12.6)",
        "Packages: tensorrt 10.3.0",
        "ONNX Runtime offers: CPUExecutionProvider",
        "For this TensorRT: dossr-export --fp16 --opset 18",
        "",
        "--device tensorrt  works",
        "\nnote: a note",
    ]


@pytest.mark.parametrize(
    ("version", "jetpack", "words"),
    [
        ("10.2.0", None, "10.3 or newer"),
        ("10.3.0", "6.2", None),
        ("10.16.1.11", None, None),
        ("11.0.0.114", None, None),
        ("11.0.0.114", "7.2.2", "11.0 to 11.4.0 have no JetPack"),
        ("11.3.0.99", "6.2", "11.0 to 11.4.0 have no JetPack"),
        ("11.4.0.106", "7.2.2", "11.0 to 11.4.0 have no JetPack"),
        ("11.4.1.20", "7.2.2", None),
        ("11.4.1.20", "7.2.1", "needs JetPack 7.2.2"),
        ("11.4.1.20", "6.2.1", "needs JetPack 7.2.2"),
        ("11.4.1.20", "7", None),
        ("11.4.1.20", "6", "needs JetPack 7.2.2"),
        ("11.4.1.20", "unknown", None),
        ("11.5.0", "7.3", None),
    ],
)
def test_tensorrt_is_refused_where_it_does_not_serve(version, jetpack, words):
    found = support.refusal(version, jetpack)
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("version", "opset"),
    [
        ("10.3.0", 18),
        ("10.9.0.34", 18),
        ("10.13.3.9.post1", 18),
        ("10.14.1.48.post1", 23),
        ("11.4", 23),
    ],
)
def test_the_operator_set_follows_the_parser(version, opset):
    assert support.best_opset(version) == opset


@pytest.mark.parametrize(
    ("said", "words"),
    [
        # As users reported them: NVIDIA/TensorRT issues 2916, 2072, 2041 and others.
        ("Error Code 10: Internal Error (Could not find any implementation for node Conv_119 + Add_182.)",
         "memory or workspace ran out"),
        ("Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION "
         "failed.Version tag does not match. Note: Current Version: 237, Serialized Engine Version: 239)",
         "another version of TensorRT"),
        ("Error Code 1: Serialization (Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)",
         "damaged"),
        ("Error Code 1: Serialization (Serialization assertion at /_src/runtime failed.)", "damaged"),
        ("Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, "
         "expecting compute 8.7 got compute 8.9, please rebuild.)", "another kind of GPU"),
        ("Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)", "out of memory"),
        ("CUDA initialization failure with error: 35", "dossr-doctor"),
        ("In node 3: UNSUPPORTED_NODE: No importer registered for op: Attention.", "--opset 18"),
    ],
)  # fmt: skip
def test_errors_are_translated_and_quoted(said, words):
    line = support.meaning([said, "Error Code 4: Internal Error (Engine deserialization failed.)"])
    assert words in line
    assert said[:30] in line
    assert "\n" not in line


def test_memory_explains_what_comes_of_it():
    said = ["Could not find any implementation for node a", "Cuda Runtime (out of memory)"]
    assert support.meaning(said).startswith("out of memory")


def test_what_is_not_known_is_quoted():
    assert support.meaning(["a  new\nerror", "another"]) == "a new error"
    assert support.meaning([]) == "TensorRT did not say why"
    assert len(support.meaning(["x" * 1000])) == 200


def _layers(*types, kind="conv", field="Format/Datatype"):
    return [{"LayerType": kind, "Inputs": [{field: t}], "Outputs": [{field: t}]} for t in types]


@pytest.mark.parametrize(
    ("layers", "share"),
    [
        (_layers("Half", "Half", "Float", "Half"), 0.75),
        (_layers("Row major linear FP16 format", "Row major linear FP32"), 0.5),
        (_layers("Half", "Float", field="DataType"), 0.5),
        (_layers("Float", "Float"), 0.0),
        (_layers("Half") + _layers("Float", "Half", kind="Reformat") + _layers("Int64"), 1.0),
        ([*_layers("Half"), "a name only", {"LayerType": "signal"}], 1.0),
        ([{"LayerType": "gemm", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": [{"Format/Datatype": "Half"}]}], 1.0),
        ([{"LayerType": "gemm", "Inputs": [{"Format": "Row major linear (kLINEAR)", "DataType": "Half"}]}], 1.0),
    ],
)  # fmt: skip
def test_the_share_of_half_layers_is_counted(layers, share):
    assert support.fp16_share(json.dumps({"Layers": layers})) == share


@pytest.mark.parametrize("layers", [[], ["only", "names"], _layers("Int64"), _layers("N/A due to dynamic shapes")])  # fmt: skip
def test_layers_without_types_prove_nothing(layers):
    with pytest.raises(ValueError, match="shows no layer's types"):
        support.fp16_share(json.dumps({"Layers": layers}))


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "6"),
        ("# R38 (release), REVISION: 2.0", "7"),
        ("# R99 (release)", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_linux_release_tells_the_major_jetpack(release, jetpack):
    assert jetpack_of(release) == jetpack
