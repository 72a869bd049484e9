"""ONNX Runtime sessions on the CPU."""

import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dossr.runtime import EngineError
from dossr.runtime.engines.onnxruntime import session
from dossr.runtime.engines.onnxruntime.session import (
    CPU,
    OrtEngine,
    Provider,
    left_nodes,
    open_whole,
)
from dossr.runtime.errors import OutOfMemoryError
from dossr.runtime.tensors import TensorSpec


def test_a_wrong_array_is_named_with_what_was_wanted(toy_graph):
    engine = OrtEngine(toy_graph("restorer"))
    wanted = r"tensor 'lr' must be float32\[batch, 3, lr_h, lr_w\], got "
    for array, got in (
        (np.zeros((1, 3, 8, 8)), r"float64\[1, 3, 8, 8\]"),
        (np.zeros((1, 4, 8, 8), np.float32), r"float32\[1, 4, 8, 8\]"),
        (np.zeros((3, 8, 8), np.float32), r"float32\[3, 8, 8\]"),
    ):
        with pytest.raises(ValueError, match=wanted + got):
            engine.run(lr=array)


def test_the_signature_is_what_the_file_says(toy_graph):
    engine = OrtEngine(toy_graph("denoiser"))
    assert engine.inputs["time"] == TensorSpec("time", "float32", ("batch",))
    assert list(engine.inputs) == ["x", "hint", "time"]
    assert list(engine.outputs) == ["eps"]


def test_a_file_that_is_no_network_is_told_in_one_line(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no protobuf at all")
    with pytest.raises(EngineError, match=r"^ONNX Runtime cannot open .*broken\.onnx: [^\n]+$"):
        OrtEngine(path)
    with pytest.raises(EngineError, match=r"^ONNX Runtime cannot open .*none\.onnx: [^\n]+$"):
        OrtEngine(tmp_path / "none.onnx")


_OPEN_IN_LITTLE_MEMORY = """
import re, resource
from pathlib import Path
from dossr.runtime.bundle.integrity import DEMO
from dossr.runtime.engines.onnxruntime.session import OrtEngine
from dossr.runtime import EngineError

OrtEngine(DEMO / "decoder.cpu.onnx")
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
try:
    OrtEngine(DEMO / "denoiser.cpu.onnx")
except EngineError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space as Linux does")
def test_a_network_that_memory_does_not_hold_is_told_in_one_line():
    """The denoiser's weights are larger than the 8 MiB that are left."""
    command = [sys.executable, "-c", _OPEN_IN_LITTLE_MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.match(
        r"^ONNX Runtime cannot open .*denoiser\.cpu\.onnx in the free memory; hold one network at a time [^\n]+\n$",
        done.stdout,
    )


def test_a_lack_of_memory_is_not_taken_for_a_network_that_cannot_be_recorded(monkeypatch, tmp_path):
    """A provider that records is not tried again without; smaller tiles are."""
    tried = []

    def fails(path, provider, *_):
        tried.append(provider)
        raise OutOfMemoryError("the free memory")

    monkeypatch.setattr(session, "_open", fails)
    recording = Provider("CUDAExecutionProvider", {"enable_cuda_graph": "1"})
    with pytest.raises(OutOfMemoryError, match=r"^the free memory$"):
        open_whole(tmp_path / "denoiser.cuda.onnx", recording, {})
    assert tried == [recording]


def test_a_network_that_fails_is_told_in_one_line(toy_graph):
    engine = OrtEngine(toy_graph("denoiser"))
    x, hint = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 4, 7, 8), np.float32)
    with pytest.raises(EngineError, match=r"^denoiser\.cpu\.onnx failed: [^\n]+$"):
        engine.run(x=x, hint=hint, time=np.zeros(1, np.float32))


@pytest.mark.parametrize(
    ("size", "what"), [(2**46, "ran out of memory for this size;"), (2**62, "failed:")]
)
def test_an_image_that_memory_does_not_hold_is_told_in_one_line(tmp_path, capfd, size, what):
    """More bytes than the address space has, or than can be counted; ONNX Runtime prints nothing itself."""
    network = helper.make_graph(
        [helper.make_node("Expand", ["x", "size"], ["y"])],
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size])],
        [helper.make_tensor("size", TensorProto.INT64, [1], [size])],
    )
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "huge.onnx")
    engine = OrtEngine(tmp_path / "huge.onnx")
    with pytest.raises(EngineError, match=rf"^huge\.onnx {what} [^\n]+$"):
        engine.run(x=np.ones(1, np.float32))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "can't start new thread",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc",
        "[ONNXRuntimeError] : 1 : FAIL : std::bad_alloc",
        "Non-zero status code returned while running ReorderOutput node. Status Message: std::bad_alloc",
        "Resource temporarily unavailable",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_running_out_of_memory_is_known_by_its_text(toy_graph, monkeypatch, text):
    """As ONNX Runtime said it under limits of the address space."""

    def fail(*arguments):
        raise RuntimeError(text)

    engine = OrtEngine(toy_graph("restorer"))
    monkeypatch.setattr(session, "interruptible", fail)
    with pytest.raises(OutOfMemoryError, match=r"ran out of memory for this size; use smaller"):
        engine.run(lr=np.zeros((1, 3, 8, 8), np.float32))


def test_nodes_on_another_provider_are_named_except_shape_arithmetic(tmp_path):
    """On a CPU session, every node is on another provider than CUDA."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="sides"),
        helper.make_node("Gather", ["shape", "first"], ["batch"], name="batch"),
        helper.make_node("Concat", ["batch", "rest"], ["flat"], axis=0, name="target"),
        helper.make_node("Reshape", ["x", "flat"], ["r"], name="flatten"),
        helper.make_node("Softmax", ["r"], ["s"], name="weigh"),
        helper.make_node("Erf", ["s"], ["y"]),
    ]
    weights = [
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("rest", TensorProto.INT64, [1], [-1]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [f"{n}0", f"{n}1"]) for n in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "net.onnx")
    session = open_whole(tmp_path / "net.onnx", CPU, {})
    assert left_nodes(session, CPU) == []
    assert sorted(left_nodes(session, Provider("CUDAExecutionProvider"))) == [
        "Erf",
        "Softmax weigh",
    ]
