"""ONNX Runtime's CUDA provider, the real one, over CUDA libraries that compute nothing."""

import json
import re

import onnx
import pytest
from onnx import TensorProto, helper

from dossr.runtime.engines.onnxruntime.cuda_provider import cuda_provider

CHECK = "from dossr.runtime.engines.onnxruntime.cuda_provider import check_cuda\n"


def _refusal(python, call, **options):
    """Return the EngineError of a call as it is printed, or nothing."""
    caught = (
        f"from dossr.runtime import EngineError\ntry: {call}\nexcept EngineError as e: print(e)"
    )
    return python("-c", CHECK + caught, **options)


def test_the_check_passes_where_all_libraries_are(gpu_build):
    assert _refusal(gpu_build, 'check_cuda(13, "90")') == ""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("import onnxruntime; onnxruntime.__version__ = '1.26.0'; check_cuda(13, '90')",
         r"onnxruntime-gpu must be 1\.29 or newer, got 1\.26\.0; pip "),
        ('check_cuda(12, "90")', "onnxruntime-gpu [0-9.]+ is built for CUDA 13.* CuPy for CUDA 12; "),
        ('check_cuda(13, "87")', r"onnxruntime-gpu .* no code for this Jetson \(.* 8\.7\); use --dev"),
        ('check_cuda(13, "110")', r"onnxruntime-gpu .* no code for this Jetson \(.* 11\.0\); use --"),
    ],
)  # fmt: skip
def test_what_the_provider_cannot_do_here_is_one_line(gpu_build, call, message):
    printed = _refusal(gpu_build, call)
    assert re.match(message, printed), printed
    assert printed.count("\n") == 1


def test_an_absent_cudnn_is_named(gpu_build, stubs, tmp_path):
    """ONNX Runtime does not tell until the first convolution."""
    for library in stubs.glob("libcu*"):
        if "cudnn" not in library.name:
            (tmp_path / library.name).symlink_to(library.resolve())
    printed = _refusal(gpu_build, 'check_cuda(13, "90")', libraries=tmp_path)
    assert re.match(r"ONNX Runtime cannot find libcudnn\.so\.9; install: pip [^\n]+\n$", printed)


def test_a_size_runs_plainly_then_records_a_graph_then_replays_it(gpu_build, toy_graph, request):
    """Per size: no graph; one made and launched; launched; launched."""
    script = request.path.with_name("stub_cuda") / "record.py"
    seen = json.loads(gpu_build(script, toy_graph("denoiser")).splitlines()[-1])
    assert seen == [[0, 0], [1, 1], [1, 2], [1, 3], [1, 3], [2, 4], [2, 5], [2, 6]]


def test_a_network_that_would_run_in_part_on_the_cpu_is_refusal(gpu_build, tmp_path):
    shape = ["batch", 3, 3]
    network = helper.make_graph(
        [
            helper.make_node("Exp", ["x"], ["e"]),
            helper.make_node("Det", ["e"], ["d"], name="area"),
            helper.make_node("Exp", ["d"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
    )
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    code = (
        "from pathlib import Path\n"
        "from dossr.runtime import EngineError\n"
        "from dossr.runtime.engines.onnxruntime.cuda_provider import cuda_provider\n"
        "from dossr.runtime.engines.onnxruntime.session import open_whole\n"
        f"path = Path({str(tmp_path / 'net.onnx')!r})\n"
        "try: open_whole(path, cuda_provider(1, 0, tf32=False), {'batch': 1})\n"
        "except EngineError as error: print(error)"
    )
    printed = gpu_build("-c", code)
    assert "net.onnx does not run on CUDAExecutionProvider as a whole" in printed
    assert "Det area" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_an_option(tf32):
    assert cuda_provider(stream=1, device=2, tf32=tf32).options["use_tf32"] == str(int(tf32))
