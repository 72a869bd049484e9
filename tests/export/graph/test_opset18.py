"""Operator set 18 says the same as 23 in older operators."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.fp16 import to_fp16
from dossr.export.graph.opset18 import to_opset18


def _model(node, shape, weights=()):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.float32(w), n) for n, w in weights],
    )
    opset = [helper.make_opsetid("", 23)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def _norm(rank):
    random = np.random.default_rng(0)
    weights = [(name, random.normal(1, 0.2, 32)) for name in ("w", "b")]
    node = helper.make_node(
        "GroupNormalization", ["x", "w", "b"], ["y"], num_groups=8, epsilon=1e-6
    )
    return _model(node, ["n", 32, *["h", "v"][: rank - 2]], weights)


def _run(model, x):
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("rank", [3, 4])
def test_a_group_norm_becomes_an_instance_norm_of_its_groups(rank):
    x = np.random.default_rng(1).normal(2, 3, (2, 32, 9, 7)[:rank]).astype(np.float32)
    exact, model = _run(_norm(rank), x), _norm(rank)
    to_opset18(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert model.opset_imports[""] == 18
    assert np.linalg.norm(_run(model, x) - exact) <= 1e-5 * np.linalg.norm(exact)


def test_gelu_becomes_the_error_function():
    x = np.linspace(-6, 6, 1001, dtype=np.float32)[None]
    exact = _run(_model(helper.make_node("Gelu", ["x"], ["y"]), [1, 1001]), x)
    model = _model(helper.make_node("Gelu", ["x"], ["y"]), [1, 1001])
    to_opset18(model)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(_run(model, x), exact, atol=1e-6)


def test_an_operator_without_an_older_form_is_refused():
    model = _model(helper.make_node("Gelu", ["x"], ["y"], approximate="tanh"), [1, 3])
    with pytest.raises(ValueError, match="Gelu must be exact"):
        to_opset18(model)
    model = _model(helper.make_node("Swish", ["x"], ["y"]), [1, 3])
    with pytest.raises(ValueError, match="operator set 18 has no Swish"):
        to_opset18(model)


def test_scale_and_bias_of_a_norm_are_rounded_once_in_float16():
    model = _norm(4)
    to_opset18(model)
    to_fp16(model)
    kinds = {node.op_type: node.inputs[0].dtype for node in model.graph if node.op_type != "Cast"}
    assert kinds["InstanceNormalization"] == kinds["Mul"] == kinds["Add"] == ir.DataType.FLOAT
