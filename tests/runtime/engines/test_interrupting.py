"""Ctrl-C during a network run of several seconds."""

import signal
import subprocess
import sys
import time

import onnx
import pytest
from onnx import TensorProto, helper

_SHARE = 100  # the long network has so many times the operators of the short one

_PROGRAM = """
import sys, threading, time, numpy as np
from pathlib import Path
from dossr.runtime.engines.device import load_onnx_device
device, x = load_onnx_device(sys.argv[1]), np.zeros((1536, 1536), np.float32)
short, long = (device.open_file(Path(path)) for path in sys.argv[2:])
for engine in (short, long): engine.run(x=x[:2, :2])
short.run(x=x)
began = time.monotonic()
short.run(x=x)
seconds = time.monotonic() - began
threading.Timer(seconds, lambda: print(seconds, flush=True)).start()
try: long.run(x=x)
except KeyboardInterrupt: print('stopped', flush=True)
else: print('finished', flush=True)
"""


@pytest.mark.parametrize("device", ["cpu", "openvino"])
def test_ctrl_c_ends_a_long_run_after_the_operator_in_progress(heeding, tmp_path, device):
    """In less than a quarter of the time that the whole run would take here."""
    paths = [tmp_path / "short.onnx", tmp_path / "long.onnx"]
    for path, count in zip(paths, (15, 15 * _SHARE), strict=True):
        onnx.save(_powers(count), path)
    command = [sys.executable, "-c", _PROGRAM, device, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        short = float(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.stdout.readline() == "stopped\n"
        assert time.monotonic() - began < _SHARE * short / 4
        assert process.wait(timeout=30) == 0


def _powers(count):
    """Return a network that multiplies a square matrix by itself ``count`` times."""
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", "n"]) for n in ("x", f"x{count}")
    )
    nodes = [
        helper.make_node("MatMul", [f"x{n}" if n else "x", "x"], [f"x{n + 1}"])
        for n in range(count)
    ]
    return helper.make_model(
        helper.make_graph(nodes, "long", [x], [y]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
