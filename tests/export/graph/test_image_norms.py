"""Norms between convolutions, as the real OpenVINO compiles and computes them on a processor."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.image_norms import expand_image_norms

ov = pytest.importorskip("openvino")


def _network(channels=3):
    """Return x -> convolution -> norm -> SiLU -> convolution -> y, of ``channels`` channels in and out."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(32, channels, 3, 3)) / 6,
        "w2": random.normal(size=(channels, 32, 3, 3)) / 17,
        "gain": random.normal(1.0, 0.1, 32),
        "bias": random.normal(0.0, 0.1, 32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["first"], pads=[1] * 4),
        helper.make_node(
            "GroupNormalization", ["first", "gain", "bias"], ["normed"], num_groups=8, epsilon=1e-6
        ),
        helper.make_node("Sigmoid", ["normed"], ["gate"]),
        helper.make_node("Mul", ["normed", "gate"], ["silu"]),
        helper.make_node("Conv", ["silu", "w2"], ["y"], pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels, "h", "w"])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 23)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def _written_out(channels=3):
    model = _network(channels)
    expand_image_norms(model)
    return model


def _compiled(model, side, precision="f32"):
    read = ov.Core().read_model(ir.to_proto(model).SerializeToString())
    read.reshape([1, model.graph.inputs[0].shape[1], side, side])
    return ov.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": precision})


def _reorders(model):
    """Return how many tensors of the whole image OpenVINO brings into another order within the network."""
    found = [
        node.get_friendly_name()
        for node in _compiled(model, 64).get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"] == "Reorder"
        and list(node.get_output_shape(0)) == [1, 32, 64, 64]
    ]
    return len(found)


def test_written_out_norms_leave_channels_last():
    assert _reorders(_network()) == 2  # there and back
    assert _reorders(_written_out()) == 0


def _exact(x):
    """Return torch's result in float64."""
    w1, w2, gain, bias = (
        torch.tensor(_network().graph.initializers[name].const_value.numpy()).double()
        for name in ("w1", "w2", "gain", "bias")
    )
    first = torch.conv2d(torch.tensor(x).double(), w1, padding=1)
    normed = torch.group_norm(first, 8, gain, bias, 1e-6)
    return torch.conv2d(torch.nn.functional.silu(normed), w2, padding=1).numpy()


def _error(model, x):
    y = _compiled(model, x.shape[-1])([x])[0]
    expected = _exact(x)
    return np.linalg.norm(y - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("contrast", [0.0, 1e-4, 1.0])
def test_large_flat_images_are_exact(contrast):
    noise = np.random.default_rng(1).normal(size=(1, 3, 512, 512))
    x = (0.7 + contrast * noise).astype(np.float32)
    assert _error(_written_out(), x) < 1e-5
    if contrast < 1.0:  # one reason for the pass
        assert _error(_network(), x) > 1e-4


def test_the_graph_of_latents_is_left_whole():
    assert [node.op_type for node in _written_out(channels=4).graph] == [
        node.op_type for node in _network(channels=4).graph
    ]
