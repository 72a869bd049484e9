"""Graphs of one stage share one file of weights."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.weights import weights_size, write_graphs


def _model(nodes, weights):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def test_a_weight_of_two_graphs_is_stored_once_and_both_run(tmp_path):
    random = np.random.default_rng(0)
    large = random.normal(size=(64, 64)).astype(np.float32)
    small = random.normal(size=64).astype(np.float32)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    shifted = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    graphs = {
        tmp_path / "s.one.onnx": _model([product], {"w": large}),
        tmp_path / "s.two.onnx": _model(shifted, {"w": large, "b": small}),
    }
    size, written = weights_size(graphs), []
    files = write_graphs(graphs, tmp_path / "s.weights", written.append)
    assert files == {path: path for path in graphs}
    assert size == sum(written) == large.nbytes == (tmp_path / "s.weights").stat().st_size
    x = random.normal(size=(3, 64)).astype(np.float32)
    one, two = (ort.InferenceSession(path).run(None, {"x": x})[0] for path in graphs)
    np.testing.assert_allclose(one, x @ large, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(two, one + small, rtol=1e-4, atol=1e-4)


def test_equal_graphs_are_one_file(tmp_path):
    product, sum_ = (
        helper.make_node(operator, ["x", "w"], ["y"]) for operator in ("MatMul", "Add")
    )
    weights = {"w": np.ones((64, 64), np.float32)}
    one, other, same = (tmp_path / f"s.{name}.onnx" for name in ("one", "other", "same"))
    graphs = {
        one: _model([product], weights),
        other: _model([sum_], weights),
        same: _model([product], weights),
    }
    files = write_graphs(graphs, tmp_path / "s.weights", lambda _count: None)
    assert files == {one: one, other: other, same: one}
    assert sorted(tmp_path.glob("*.onnx")) == [one, other]
