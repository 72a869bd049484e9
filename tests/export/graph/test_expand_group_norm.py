import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.expand_group_norm import expand_group_norms
from dossr.export.graph.fp16 import to_fp16


def _norm(channels=32, groups=8):
    """Return a graph y = GroupNormalization(x) whose weights differ by channel."""
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [helper.make_node("GroupNormalization", ["x", "w", "b"], ["y"], num_groups=groups)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", channels, "h", "w_"])],
        [
            numpy_helper.from_array(random.normal(1, 0.1, channels).astype(np.float32), name)
            for name in ("w", "b")
        ],
    )
    opset = [helper.make_opsetid("", 23)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def _run(model, x):
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


def _exact(model, x):
    """Compute the definition in float64."""
    weight, bias = (model.graph.initializers[n].const_value.numpy() for n in ("w", "b"))
    grouped = x.astype(np.float64).reshape(len(x), 8, -1)
    variance = grouped.var(-1, keepdims=True)
    normed = ((grouped - grouped.mean(-1, keepdims=True)) / np.sqrt(variance + 1e-5)).reshape(
        x.shape
    )
    return normed * weight[:, None, None] + bias[:, None, None]


def _relative(result, expected):
    return np.linalg.norm(result - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("mean", [0.0, 5.0, -300.0])
def test_flat_groups_are_normalised_as_exactly_as_float32_allows(mean):
    """The deviation is 0.01 around means of groups; float32 rounds a mean by up to 6e-8 of itself."""
    noise = np.random.default_rng(1).normal(size=(2, 32, 9, 16)) * 0.01
    x = (noise + mean + np.arange(32)[:, None, None] // 4).astype(np.float32)
    model = _norm()
    plain = _run(model, x)
    expected = _exact(model, x)
    expand_group_norms(model)
    error = _relative(_run(model, x), expected)
    assert error < 1e-6 + 6e-8 * np.abs(x).max() / 0.01
    if mean == -300.0:  # the reason for the pass: the plain result is useless
        assert not _relative(plain, expected) < 0.5


def test_a_constant_image_gives_the_bias():
    """Without the pass, rounding may make E[x^2] - E[x]^2 negative and the result NaN."""
    model = _norm()
    bias = model.graph.initializers["b"].const_value.numpy()
    expand_group_norms(model)
    y = _run(model, np.full((1, 32, 8, 8), 77.7, np.float32))
    np.testing.assert_allclose(y, np.broadcast_to(bias[:, None, None], y.shape), atol=2e-2)


def test_a_group_of_a_million_numbers_is_as_exact_as_a_small_one():
    """The reason for means in two stages: one sum after the other loses a hundredth of float32."""
    x = np.random.default_rng(3).normal(1.0, 1.0, (1, 32, 512, 512)).astype(np.float32)
    model = _norm()
    plain, expected = _relative(_run(model, x), _exact(model, x)), _exact(model, x)
    expand_group_norms(model)
    error = _relative(_run(model, x), expected)
    assert error < 1e-6
    assert plain > 5 * error


@pytest.mark.parametrize("rank", [3, 4])
def test_it_stays_float32_in_a_float16_graph(rank):
    model = _norm()
    if rank == 3:
        for value in (*model.graph.inputs, *model.graph.outputs):
            value.shape = ir.Shape(["n", 32, "l"])
    x = np.random.default_rng(2).normal(3.0, 1.0, (2, 32, 8, 8)).astype(np.float32)
    expected = _exact(model, x)
    expand_group_norms(model)
    assert "GroupNormalization" not in [node.op_type for node in model.graph]
    to_fp16(model)
    found = _run(model, x.reshape(2, 32, 64) if rank == 3 else x).reshape(x.shape)
    assert _relative(found, expected) < 2e-3
