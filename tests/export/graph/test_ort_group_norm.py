"""GroupNormalization as ONNX Runtime's CUDA kernel takes it, compared on the CPU."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dossr.export.graph.expand_group_norm import expand_group_norms
from dossr.export.graph.fp16 import to_fp16
from dossr.export.graph.ort_group_norm import use_ort_group_norm
from dossr.export.graph.standard_operators import to_standard_operators

NORM = "GroupNormalization"


def _model(channels=32, groups=8, after=(), read=("n",), rank=4, epsilon=1e-6):
    """A product, a norm and what follows it: pairs (operator, inputs, output)."""
    random = np.random.default_rng(0)
    weights = {
        "k": random.normal(0, 0.2, (channels, channels, *(1,) * (rank - 2))),
        "w": random.normal(1, 0.3, channels),
        "b": random.normal(0, 0.3, channels),
    }
    shape = ["batch", channels, "height", "width"][:rank]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node(NORM, ["c", "w", "b"], ["n"], num_groups=groups, epsilon=epsilon),
        *(helper.make_node(operator, inputs, [output]) for operator, inputs, output in after),
        helper.make_node("Sum", list(read), ["total"]),
        helper.make_node("Conv", ["total", "k"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 23)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def _run(model, x):
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


def _operators(model):
    return [node.op_type for node in model.graph]


def _kernel(model):
    return next(node for node in model.graph if node.op_type == "GroupNorm")


SILU = [("Sigmoid", ["n"], "g"), ("Mul", ["n", "g"], "s")]
SILU_TURNED = [("Sigmoid", ["n"], "g"), ("Mul", ["g", "n"], "s")]
SIGMOID = [("Sigmoid", ["n"], "g"), ("Mul", ["g", "c"], "s")]  # no SiLU: another factor


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize(
    ("after", "read", "activation"),
    [
        ([], ["n"], 0),
        (SILU, ["s"], 1),
        (SILU_TURNED, ["s"], 1),
        (SILU, ["s", "n"], 0),
        (SILU, ["s", "g"], 0),
        (SIGMOID, ["s"], 0),
    ],
    ids=["alone", "SiLU", "SiLU turned", "the norm has another reader",
         "the sigmoid has another reader", "a gate of something else"],
)  # fmt: skip
@pytest.mark.parametrize(("half", "bound"), [(False, 1e-5), (True, 2e-3)])
def test_the_kernels_norm_is_the_norm(rank, after, read, activation, half, bound):
    x = np.random.default_rng(1).normal(2.0, 1.0, (2, 32, 6, 5)[:rank]).astype(np.float32)
    canonical, lowered = (_model(after=after, read=read, rank=rank) for _ in range(2))
    expand_group_norms(canonical)
    use_ort_group_norm(lowered)
    assert NORM not in _operators(lowered)
    assert _kernel(lowered).attributes["activation"].as_int() == activation
    if half:
        to_fp16(lowered)
    expected, found = _run(canonical, x), _run(to_standard_operators(lowered), x)
    assert np.linalg.norm(found - expected) <= bound * np.linalg.norm(expected)
    assert [value.name for value in lowered.graph.outputs] == ["y"]


def test_scale_and_bias_stay_float32_in_half_precision_and_the_picture_does_not():
    model = _model()
    use_ort_group_norm(model)
    to_fp16(model)
    dtypes = [value.dtype for value in (*_kernel(model).inputs, *_kernel(model).outputs)]
    half, single = ir.DataType.FLOAT16, ir.DataType.FLOAT
    assert dtypes == [half, single, single, half]
    assert "Cast" not in [user.op_type for user, _ in _kernel(model).outputs[0].uses()]


@pytest.mark.parametrize(
    "channels", [128, 256, 320, 512, 640, 960, 1280, 1920, 2560], ids="{} channels".format
)
def test_the_kernel_takes_every_norm_of_the_official_model(channels):
    model = _model(channels, 32)
    use_ort_group_norm(model)
    assert "GroupNorm" in _operators(model)
    assert NORM not in _operators(model)


@pytest.mark.parametrize("rank", [3, 4])
@pytest.mark.parametrize(
    ("channels", "groups"), [(24, 8), (1024, 1)], ids=["3 in a group", "more than a block reads"]
)
@pytest.mark.parametrize(("half", "bound"), [(False, 1e-5), (True, 2e-3)])
def test_a_norm_that_the_kernel_does_not_take_is_written_out(rank, channels, groups, half, bound):
    x = np.random.default_rng(1).normal(50.0, 1.0, (2, channels, 6, 5)[:rank]).astype(np.float32)
    canonical, lowered = (_model(channels, groups, SILU, ["s"], rank) for _ in range(2))
    expand_group_norms(canonical)
    use_ort_group_norm(lowered)
    assert not {NORM, "GroupNorm"} & {*_operators(lowered)}
    assert "com.microsoft" not in lowered.opset_imports
    if half:
        to_fp16(lowered)
    expected, found = _run(canonical, x), _run(lowered, x)
    assert np.linalg.norm(found - expected) <= bound * np.linalg.norm(expected)


def test_a_norm_that_is_an_output_keeps_its_name():
    model = _model()
    model.graph.outputs[0] = next(n for n in model.graph if n.op_type == NORM).outputs[0]
    use_ort_group_norm(model)
    x = np.random.default_rng(1).normal(2.0, 1.0, (1, 32, 6, 5)).astype(np.float32)
    assert model.graph.outputs[0].name == "n"
    assert _run(to_standard_operators(model), x).shape == x.shape


def test_an_operator_without_a_standard_form_is_named():
    model = _model()
    use_ort_group_norm(model)
    _kernel(model).op_type = "SkipGroupNorm"
    with pytest.raises(ValueError, match=r"^com\.microsoft\.SkipGroupNorm has no form [^\n]+$"):
        to_standard_operators(model)
