import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.fp16 import Fp16Error, store_fp16, to_fp16

FLOAT16 = ir.DataType.FLOAT16


def _model(nodes, inputs, outputs, weights, opset=23):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return ir.from_proto(model)


def _denoiser():
    """A convolution, an added time embedding, a norm, attention, a convolution and a clip."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Conv", ["doubled", "w1"], ["c1"], name="first"),
        helper.make_node("Sin", ["time"], ["s"]),
        helper.make_node("Gemm", ["s", "wt"], ["t"], name="embed"),
        helper.make_node("Reshape", ["t", "column"], ["t4"]),
        helper.make_node("Add", ["c1", "t4"], ["sum"], name="add"),
        helper.make_node("GroupNormalization", ["sum", "ones", "ones"], ["n"], num_groups=2, name="norm"),
        helper.make_node("Reshape", ["n", "tokens"], ["q"]),
        helper.make_node("Attention", ["q", "q", "q"], ["a"], q_num_heads=1, kv_num_heads=1, name="attention"),
        helper.make_node("Reshape", ["a", "square"], ["b"]),
        helper.make_node("Resize", ["b", "", "scales"], ["r"], mode="nearest", name="resize"),
        helper.make_node("Conv", ["r", "w2"], ["c2"], name="last"),
        helper.make_node("Clip", ["c2", "low", "high"], ["eps"], name="clip"),
    ]  # fmt: skip
    model = _model(
        nodes,
        {"x": [1, 4, 4, 4], "time": [1, 1]},
        {"eps": [1, 4, 8, 8]},
        {
            "w1": random.normal(size=(4, 4, 1, 1)), "w2": random.normal(size=(4, 4, 1, 1)),
            "wt": random.normal(size=(1, 4)), "ones": np.ones(4), "two": 2.0,
            "scales": [1, 1, 2, 2], "low": -5.0, "high": 5.0,
        },
    )  # fmt: skip
    for name, values in (
        ("column", [1, 4, 1, 1]),
        ("tokens", [1, 16, 4]),
        ("square", [1, 4, 4, 4]),
    ):
        tensor = ir.tensor(np.array(values, np.int64), name=name)
        old = next(v for n in model.graph for v in n.inputs if v is not None and v.name == name)
        new = ir.Value(name=name, const_value=tensor, type=ir.TensorType(ir.DataType.INT64))
        model.graph.register_initializer(new)
        ir.convenience.replace_all_uses_with(old, new)
    return model


def _types(model):
    """Return the type of the first input of each named node."""
    return {node.name: node.inputs[0].dtype for node in model.graph if node.name}


def test_weights_and_activations_are_half_and_islands_are_not():
    model = _denoiser()
    to_fp16(model)
    half, single = ir.DataType.FLOAT16, ir.DataType.FLOAT
    types = _types(model)
    assert {types[name] for name in ("first", "add", "norm", "attention", "resize", "last")} == {
        half
    }
    assert {types[name] for name in ("embed", "clip")} == {single}
    weights = {name: value.dtype for name, value in model.graph.initializers.items()}
    assert weights["w1_fp16"] == weights["w2_fp16"] == weights["ones_fp16"] == half
    assert weights["wt"] == weights["scales"] == weights["two"] == single
    assert "w1" not in weights
    norm = next(node for node in model.graph if node.op_type == "GroupNormalization")
    assert norm.attributes.get_int("stash_type", 1) == single


@pytest.mark.parametrize(
    ("kind", "attributes"), [("GlobalAveragePool", {}), ("ReduceMean", {"keepdims": 1})]
)
def test_a_mean_over_many_values_is_an_island(kind, attributes):
    """An engine may add up in the type of the input, where float16 ends at 65 504."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node(kind, ["c"], ["m"], name="mean", **attributes),
        helper.make_node("Mul", ["c", "m"], ["p"], name="product"),
        helper.make_node("Conv", ["p", "w"], ["y"], name="last"),
    ]
    model = _model(nodes, {"x": [1, 4, 8, 8]}, {"y": None}, {"w": np.ones((4, 4, 1, 1))})
    to_fp16(model)
    types = _types(model)
    assert types["mean"] == ir.DataType.FLOAT
    assert types["product"] == ir.DataType.FLOAT16


def test_inputs_and_outputs_keep_their_names_and_float32():
    model = _denoiser()
    to_fp16(model)
    signature = [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)]
    assert signature == [(name, ir.DataType.FLOAT) for name in ("x", "time", "eps")]


def test_the_half_graph_computes_nearly_the_same():
    whole, half = _denoiser(), _denoiser()
    to_fp16(half)
    inputs = {
        "x": np.random.default_rng(1).normal(size=(1, 4, 4, 4)).astype(np.float32),
        "time": np.full((1, 1), 499.0, np.float32),
    }
    results = []
    for model in (whole, half):
        session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
        results.append(session.run(None, inputs)[0])
    error = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
    assert 0 < error < 2e-3


def test_a_marked_node_and_sums_over_many_values_stay_in_float32():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"], name="first"),
        helper.make_node("Softmax", ["q"], ["p"], name="marked"),
        helper.make_node("Softmax", ["p"], ["p2"], name="unmarked"),
        helper.make_node("ReduceMean", ["p2"], ["m"], name="mean"),
        helper.make_node("Mul", ["p2", "m"], ["v"], name="product"),
        helper.make_node("MatMul", ["v", "w"], ["out"], name="last"),
    ]
    model = _model(nodes, {"x": [1, 3, 4]}, {"out": [1, 3, 4]}, {"w": np.eye(4)})
    next(node for node in model.graph if node.name == "marked").meta["float32"] = True
    to_fp16(model)
    types = _types(model)
    assert {types[n] for n in ("marked", "mean")} == {ir.DataType.FLOAT}
    assert {types[n] for n in ("first", "unmarked", "product", "last")} == {ir.DataType.FLOAT16}


def test_a_constant_takes_the_precision_of_its_readers():
    """The keys of the folded prompt are float16, expanded to the batch by integers from the input."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="shape"),
        helper.make_node("Expand", ["k", "s"], ["wide"], name="expand"),
        helper.make_node("MatMul", ["x", "w"], ["q"], name="first"),
        helper.make_node("Mul", ["q", "wide"], ["v"], name="product"),
        helper.make_node("MatMul", ["v", "w"], ["out"], name="last"),
    ]
    weights = {"w": np.eye(4), "k": np.ones((1, 1, 4))}
    model = _model(nodes, {"x": [1, 3, 4]}, {"out": [1, 3, 4]}, weights)
    to_fp16(model)
    assert _types(model)["expand"] == ir.DataType.FLOAT16
    assert "k" not in model.graph.initializers


def test_stored_weights_are_those_of_the_float16_graph_and_the_rest_stays_float32():
    computed, stored = _denoiser(), _denoiser()
    to_fp16(computed)
    store_fp16(stored)

    def half(model):
        weights = model.graph.initializers.values()
        return {v.name: v.const_value.numpy().tobytes() for v in weights if v.dtype == FLOAT16}

    assert half(stored) == half(computed)
    results = {
        value.dtype for node in stored.graph for value in node.outputs if value.dtype is not None
    }
    assert FLOAT16 not in results
    sessions = [
        ort.InferenceSession(ir.to_proto(model).SerializeToString())
        for model in (_denoiser(), stored)
    ]
    random = np.random.default_rng(1)
    inputs = {
        "x": random.normal(size=(1, 4, 4, 4)).astype(np.float32),
        "time": np.ones((1, 1), np.float32),
    }
    exact, found = (session.run(None, inputs)[0] for session in sessions)
    assert 0 < np.linalg.norm(found - exact) / np.linalg.norm(exact) < 1e-3


def test_token_ids_are_numbers_too():
    """A text tower reshapes ids before it looks them up."""
    weights = {"table": np.eye(9, 4), "w": np.eye(4)}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["tokens", "row"], ["ids"]),
            helper.make_node("Gather", ["table", "ids"], ["words"], name="look-up"),
            helper.make_node("MatMul", ["words", "w"], ["h"], name="first"),
            helper.make_node("MatMul", ["h", "w"], ["y"], name="last"),
        ],
        "g",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, [5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5, 4])],
        [
            numpy_helper.from_array(np.array([1, 5]), "row"),
            *(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()),
        ],
    )
    opset = [helper.make_opsetid("", 23)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))
    to_fp16(model)
    types = {node.name: node.outputs[0].dtype for node in model.graph}
    assert types["look-up"] == ir.DataType.FLOAT  # before the first product
    assert types["first"] == types["last"] == FLOAT16


def test_a_weight_beyond_float16_is_refused():
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    model = _model(
        nodes, {"x": [1, 1, 1, 1]}, {"y": [1, 1, 1, 1]}, {"w": np.full((1, 1, 1, 1), 7e4)}
    )
    with pytest.raises(Fp16Error, match=r"weight 'w' must not exceed 65504 in float16, got 7e\+04"):
        to_fp16(model)
