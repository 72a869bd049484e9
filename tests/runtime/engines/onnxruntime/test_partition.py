"""What the real CUDA provider makes of the graphs of a bundle, over CUDA libraries that compute nothing."""

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from dossr.export.graph.ort_group_norm import use_ort_group_norm
from dossr.runtime.bundle import DEMO, open_bundle

SIZES = {"batch": 2, "height": 64, "width": 128}
LAUNCHES = {"restorer": 160, "encoder": 45, "denoiser": 450, "decoder": 50}
"""Most launches of each stage of the demo bundle; docs/cuda.md has the figures."""


def _graphs(folder):
    bundle = open_bundle(folder)
    return {stage: bundle.path(stage, "cuda") for stage in bundle.manifest.stages}


def _assert_whole(found):
    """Everything runs on the GPU, nothing is copied, and the session may be recorded."""
    assert "refused" not in found, found["refused"]
    assert found["cpu"] == {}
    assert found["copies"] == 0


@pytest.mark.parametrize("fp16", [False, True])
def test_every_stage_runs_on_the_gpu_as_a_whole(partitions, bundles, fp16):
    graphs = _graphs(bundles("separate", fp16=fp16))
    for found in partitions(graphs.values(), SIZES):
        _assert_whole(found)
        assert "GroupNormalization" not in found["operators"]


def test_the_demo_launches_few_kernels(partitions):
    graphs = _graphs(DEMO)
    for stage, found in zip(graphs, partitions(graphs.values(), SIZES), strict=True):
        _assert_whole(found)
        assert found["launches"] <= LAUNCHES[stage], (stage, found["operators"])


@pytest.mark.parametrize("rank", [3, 4])
def test_a_norm_that_the_kernel_does_not_take_runs_on_the_gpu_too(partitions, tmp_path, rank):
    """Three channels in a group."""
    shape = ["batch", 24, "height", "width"][:rank]
    graph = helper.make_graph(
        [helper.make_node("GroupNormalization", ["x", "w", "b"], ["y"], num_groups=8)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor(name, TensorProto.FLOAT, [24], [1.0] * 24) for name in ("w", "b")],
    )
    opset = [helper.make_opsetid("", 23)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))
    use_ort_group_norm(model)
    onnx.save(ir.to_proto(model), tmp_path / "norm.onnx")
    (found,) = partitions([tmp_path / "norm.onnx"], SIZES)
    _assert_whole(found)
    assert "GroupNorm" not in found["operators"]
