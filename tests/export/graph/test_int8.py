"""8-bit products: the graph against its own statement in NumPy, on ONNX Runtime."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.int8 import GATES, gate, observe, products, quantize

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "conv": RANDOM.normal(size=(6, 4, 3, 3)) * np.geomspace(0.01, 1, 6)[:, None, None, None],
    "bias": RANDOM.normal(size=6),
    "matmul": RANDOM.normal(size=(6, 5)),
    "gemm": RANDOM.normal(size=(3, 5)),
    "embed": RANDOM.normal(size=(2, 6)),
    "unused": RANDOM.normal(size=(2, 2)),
}
X = {
    "x": RANDOM.normal(size=(1, 4, 8, 8)).astype(np.float32),
    "time": np.ones((1, 2), np.float32),
}


def _model():
    """A convolution, an embedding of the time, and two matrix products, one with a transposed weight."""
    nodes = [
        helper.make_node("Gemm", ["time", "embed"], ["t"], name="embed"),
        helper.make_node("Conv", ["x", "conv", "bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalMaxPool", ["c"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Add", ["f", "t"], ["s"]),
        helper.make_node("MatMul", ["s", "matmul"], ["p"], name="matmul"),
        helper.make_node("Gemm", ["p", "gemm"], ["y"], name="gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(a.shape)) for n, a in X.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in WEIGHTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    return ir.from_proto(model)


def _run(model, **more):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {**X, **more}), strict=True))


@pytest.fixture
def ranges():
    model = _model()
    names = observe(model)
    found = _run(model)
    return {value: (float(found[low]), float(found[high])) for value, (low, high) in names.items()}


def test_products_are_those_with_a_constant_weight_that_see_the_image():
    assert [node.name for node in products(_model())] == ["conv", "matmul", "gemm"]


def test_ranges_are_of_the_activations(ranges):
    assert ranges["x"] == (X["x"].min(), X["x"].max())
    assert set(ranges) == {"x", "s", "p"}


def _rounded(array, low, high):
    """The published formula: one scale and one zero point, 0 exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = np.float32((high - low) / 255)
    zero = np.rint(-low / step)
    return (np.clip(np.rint(array / step) + zero, 0, 255) - zero).astype(np.float32) * step


def _rounded_weight(weight, axis):
    others = tuple(a for a in range(weight.ndim) if a != axis)
    step = np.abs(weight).max(axis=others, keepdims=True) / np.float32(127)
    return np.rint(weight / step) * step


def test_a_graph_in_8_bits_is_the_formula(ranges):
    quantized = _model()
    quantize(quantized, ranges)
    stated = _model()
    for name, axis in (("conv", 0), ("matmul", 1), ("gemm", 0)):
        value = stated.graph.initializers[name]
        value.const_value = ir.tensor(
            _rounded_weight(value.const_value.numpy(), axis), name=name, dtype=ir.DataType.FLOAT
        )
    model = _model()  # activations by hand, product after product
    names = observe(model)
    assert names.keys() == ranges.keys()
    x = _rounded(X["x"], *ranges["x"])
    conv = _run_with(stated, {"x": x}, "s")
    matmul = _rounded(conv, *ranges["s"]) @ stated.graph.initializers["matmul"].const_value.numpy()
    gemm = _rounded(matmul, *ranges["p"]) @ stated.graph.initializers["gemm"].const_value.numpy().T
    np.testing.assert_allclose(_run(quantized)["y"], gemm, rtol=1e-5, atol=1e-6)
    exact = _run(_model())["y"]
    assert 1e-4 < np.linalg.norm(gemm - exact) / np.linalg.norm(exact) < 0.05


def _run_with(model, inputs, output):
    clone = model.clone()
    value = next(v for node in clone.graph for v in node.outputs if v.name == output)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    clone.graph.outputs.append(value)
    return _run(clone, **inputs)[output]


def test_weights_in_8_bits_replace_those_in_float(ranges):
    model = _model()
    quantize(model, ranges)
    weights = model.graph.initializers
    assert not {"conv", "matmul", "gemm"} & weights.keys()
    for name in ("conv", "matmul", "gemm"):
        assert weights[f"{name}_int8"].dtype == ir.DataType.INT8
        assert np.abs(weights[f"{name}_int8"].const_value.numpy()).max() == 127
    assert weights["embed"].dtype == ir.DataType.FLOAT


def test_what_is_held_stays_as_it_is(ranges):
    model = _model()
    quantize(model, ranges, held=["conv", "matmul", "gemm"])
    np.testing.assert_array_equal(_run(model)["y"], _run(_model())["y"])
    model = _model()
    quantize(model, ranges, held=["conv"])
    assert {"conv", "matmul_int8", "gemm_int8"} <= model.graph.initializers.keys()


ALL = ("conv", "matmul", "gemm")


@pytest.mark.parametrize(
    ("chosen", "alone"), [(ALL, 0), (ALL, 1), (ALL, 2), (("conv", "gemm"), 1), (("matmul",), 0)]
)
def test_a_gate_shows_what_one_product_costs(ranges, chosen, alone):
    gated = _model()
    gate(gated, ranges, chosen)
    gates = np.zeros(len(chosen), np.float32)
    exact = _run(_model())["y"]
    np.testing.assert_array_equal(_run(gated, **{GATES: gates})["y"], exact)
    one = _model()
    quantize(one, ranges, held={*ALL} - {chosen[alone]})
    gates[alone] = 1
    found = _run(gated, **{GATES: gates})["y"]
    np.testing.assert_allclose(found, _run(one)["y"], rtol=1e-5, atol=1e-6)
    assert not np.array_equal(found, exact)


def test_a_range_above_zero_keeps_zero_exact():
    """Convolutions pad with zero, also where an activation is never zero."""
    model = _model()
    quantize(model, {"x": (2.0, 3.0), "s": (-3.0, -2.0), "p": (0.0, 0.0)})
    zeros = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    assert (zeros["x_zero"], zeros["s_zero"]) == (0, 255)
    assert np.isfinite(_run(model)["y"]).all()
