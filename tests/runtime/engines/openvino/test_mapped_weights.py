"""What a compiled network costs in memory, by the kernel's own count, with real OpenVINO."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dossr.export.graph.fp16 import store_fp16
from dossr.export.graph.weights import write_graphs
from dossr.runtime.bundle import DEMO, open_bundle

pytest.importorskip("openvino")
linux = pytest.mark.skipif(sys.platform != "linux", reason="counts pages in /proc")

MIB = 2**20
CHANNELS, KERNEL = 1536, 3
FLOAT32 = CHANNELS * CHANNELS * KERNEL**2 * 4 / MIB
"""MiB of the convolution's weights in float32."""

COMPILE = """
import sys
from pathlib import Path
from dossr.runtime.engines.openvino.blobs import BlobCache
from dossr.runtime.engines.openvino.buffers import Buffers
from dossr.runtime.engines.openvino.compiled_model import OvEngine
from dossr.runtime.engines.openvino.graph import Graph
import numpy as np
path = Path(sys.argv[1])
def sizes():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")]
def run(graph):
    engine = OvEngine(graph, None, "CPU", "fp32", BlobCache(print), Buffers())
    engine.run(x=np.zeros((1, %d, 8, 8), np.float32))
    return engine
warm = run(Graph(path.with_name("small.onnx"), path.with_name("small.weights")))
before = sizes()
engine = run(Graph(path, path.with_name("large.weights")))
print(*(after - start for after, start in zip(sizes(), before)))
"""


def write_convolution(path: Path, kernel: int, is_fp16: bool) -> None:
    x = ir.val("x", ir.DataType.FLOAT, ir.Shape(("batch", CHANNELS, "height", "width")))
    weights = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, kernel, kernel))
    weight = ir.val("weight", const_value=ir.tensor(weights.astype(np.float32), name="weight"))
    pads = [kernel // 2] * 4
    first = ir.node("Conv", [x, weight], {"pads": pads})
    last = ir.node("Conv", [first.outputs[0], weight], {"pads": pads})  # fp16: it is in the middle
    last.outputs[0].name = "y"
    last.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x], last.outputs, nodes=[first, last], initializers=[weight], opset_imports={"": 23}
    )
    model = ir.Model(graph, ir_version=11)
    if is_fp16:
        store_fp16(model)
    write_graphs({path: model}, path.with_suffix(".weights"), lambda _count: None)


@linux
@pytest.mark.parametrize("is_fp16", [False, True], ids=["fp32", "fp16"])
def test_compiling_keeps_one_copy_of_the_weights(tmp_path: Path, is_fp16: bool) -> None:
    write_convolution(tmp_path / "small.onnx", 1, is_fp16)
    write_convolution(tmp_path / "large.onnx", KERNEL, is_fp16)
    command = [sys.executable, "-c", COMPILE % CHANNELS, str(tmp_path / "large.onnx")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    anonymous, mapped = map(float, found.split())
    assert 0.9 * FLOAT32 < anonymous < 1.3 * FLOAT32
    assert mapped < 0.2 * FLOAT32


def anonymous() -> float:
    """MiB of this process that no file holds."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


@linux
def test_a_network_gives_back_its_memory_when_another_one_runs(openvino) -> None:
    device, bundle = openvino(), open_bundle(DEMO)
    decoder, restorer = (device.open(bundle, stage) for stage in ("decoder", "restorer"))
    small = np.zeros((1, 3, 8, 8), np.float32)
    restorer.run(lr=small)
    latent = np.random.default_rng(0).standard_normal((1, 6, 160, 160)).astype(np.float32)
    image = decoder.run(x=latent)["image"]
    held = anonymous()
    restorer.run(lr=small)
    assert anonymous() < held - 40
    np.testing.assert_array_equal(decoder.run(x=latent)["image"], image)
