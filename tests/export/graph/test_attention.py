"""Attention, scaled first and written out: the same numbers in ONNX Runtime, in the form engines need."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.decompose_attention import decompose_all_heads, decompose_large_heads
from dossr.export.graph.scale_attention import scale_attention


def _attention(heads, size, positions=5, constant_keys=False, scale=None):
    """Return a graph out = Attention of projections of x (batch, positions, heads * size)."""
    random, width = np.random.default_rng(0), heads * size
    shape, nodes = "split_heads", []
    for name in "qkv":
        source = f"{name}0"
        if not (constant_keys and name == "k"):
            nodes.append(helper.make_node("MatMul", ["x", f"w{name}"], [source], name=source))
        nodes.append(helper.make_node("Reshape", [source, shape], [f"{name}1"]))
        nodes.append(helper.make_node("Transpose", [f"{name}1"], [name], perm=[0, 2, 1, 3]))
    options = {} if scale is None else {"scale": scale}
    nodes.append(
        helper.make_node("Attention", ["q", "k", "v"], ["out"], name="attention", **options)
    )
    weights = {f"w{n}": random.normal(size=(width, width)) / width**0.5 for n in "qkv"}
    if constant_keys:
        weights["k0"] = random.normal(size=(1, positions, width))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, positions, width])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, heads, positions, size])],
        [
            *(
                numpy_helper.from_array(w.astype(np.float32), n)
                for n, w in weights.items()
                if n in used
            ),
            numpy_helper.from_array(np.array([0, 0, heads, size]), shape),
        ],
    )
    opset = [helper.make_opsetid("", 23)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def _run(model):
    shape = [int(axis) for axis in model.graph.inputs[0].shape]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32) * 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


def _kinds(model):
    return [node.op_type for node in model.graph]


CASES = {
    "heads of 7": {"heads": 2, "size": 7},
    "heads of 64": {"heads": 3, "size": 64},
    "one head of 512": {"heads": 1, "size": 512},
    "constant keys": {"heads": 2, "size": 16, "constant_keys": True},
    "another scale": {"heads": 2, "size": 16, "scale": 0.3},
}


@pytest.mark.parametrize("change", [scale_attention, decompose_all_heads])
@pytest.mark.parametrize("case", CASES)
def test_the_rewritten_attention_gives_the_same_numbers(case, change):
    exact = _run(_attention(**CASES[case]))
    model = _attention(**CASES[case])
    change(model)
    assert np.linalg.norm(_run(model) - exact) <= 5e-6 * np.linalg.norm(exact)


def test_queries_and_keys_are_scaled_behind_their_projections():
    """There, an engine fuses the multiplication with the matrix product."""
    model = _attention(heads=2, size=16)
    scale_attention(model)
    factors = [node for node in model.graph if node.op_type == "Mul"]
    assert sorted(node.inputs[0].name for node in factors) == ["k0", "q0"]
    assert {float(node.inputs[1].const_value.numpy()) for node in factors} == {np.float32(0.5)}
    attention = next(node for node in model.graph if node.op_type == "Attention")
    assert attention.attributes["scale"].as_float() == 1.0


def test_constant_keys_are_scaled_at_export():
    model = _attention(heads=2, size=16, constant_keys=True)
    scale_attention(model)
    assert _kinds(model).count("Mul") == 1
    assert "k0_scaled" in model.graph.initializers


def test_only_heads_that_no_fused_kernel_takes_are_written_out_where_others_stay():
    small, large = _attention(heads=2, size=256), _attention(heads=1, size=264)
    for model in (small, large):
        decompose_large_heads(model)
    assert _kinds(small).count("Attention") == 1
    assert _kinds(large).count("Attention") == 0
    softmax = next(node for node in large.graph if node.op_type == "Softmax")
    assert softmax.meta["float32"]  # nothing is fused there, so it costs nothing
