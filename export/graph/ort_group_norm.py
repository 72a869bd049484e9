"""A graph pass for ONNX Runtime's CUDA provider: GroupNormalization becomes its own operator GroupNorm.

Before: ``y = GroupNormalization(x)``, perhaps with ``y * Sigmoid(y)`` after it.
After: ``Transpose -> com.microsoft.GroupNorm (channels last, SiLU folded in) -> Transpose``.
Reason: the CUDA provider has no kernel for GroupNormalization and runs it as about 20 operators; its
GroupNorm takes two kernels. The transposes cancel with those that the provider puts around convolutions
(its option ``prefer_nhwc``).

The kernel reads pairs of channels of one group and gives at most 512 channels to a block, so a group needs
an even number of channels, at most 512 (contrib_ops/cuda/diffusion/group_norm_impl.cu). Other norms are
written out in float32, each group's mean taken off first.
"""

from itertools import pairwise

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .fp16 import FLOAT32
from .rewrite import constant, integers, known, replace

DOMAIN = "com.microsoft"
OPERATOR = "GroupNorm"
_MOST_CHANNELS = 512  # of a group


def use_ort_group_norm(model: ir.Model) -> None:
    """Replace every norm of a float32 graph.

    Scale and bias of GroupNorm stay float32 in a float16 graph; the kernel takes nothing else.
    """
    ShapeInferencePass()(model)  # ranks are needed: the VAE's attention has norms of rank 3
    graph = model.graph
    for node in list(graph):
        if node.op_type != "GroupNormalization":
            continue
        if _fits(node):
            model.opset_imports[DOMAIN] = 1
            _use_kernel(graph, node)
        else:
            _write_out(graph, node)


def _fits(norm: ir.Node) -> bool:
    in_group = _channels(norm) // norm.attributes["num_groups"].as_int()
    return _rank(norm) in (3, 4) and in_group % 2 == 0 and in_group <= _MOST_CHANNELS


def _use_kernel(graph: ir.Graph, norm: ir.Node) -> None:
    """Replace a norm and its SiLU; a norm of rank 3 is that of an image one pixel high."""
    x, weight, bias = norm.inputs
    is_image = _rank(norm) == 4
    there, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if is_image else ((0, 2, 1), (0, 2, 1))
    before, after = _silu(norm)
    kernel = ir.node(
        OPERATOR,
        [None, weight, bias],
        {
            "groups": norm.attributes["num_groups"].as_int(),
            "epsilon": _epsilon(norm),
            "activation": int(after is not norm),
            "channels_last": 1,
        },
        domain=DOMAIN,
    )
    height = None if is_image else integers(graph, 1)
    steps = [
        ir.node("Transpose", [x], {"perm": there}),
        *([] if is_image else [ir.node("Unsqueeze", [None, height])]),
        kernel,
        *([] if is_image else [ir.node("Squeeze", [None, height])]),
        ir.node("Transpose", [None], {"perm": back}),
    ]
    for earlier, later in pairwise(steps):
        later.replace_input_with(0, earlier.outputs[0])
    replace(graph, after, steps)
    graph.remove(before, safe=True)


def _silu(norm: ir.Node) -> tuple[list[ir.Node], ir.Node]:
    """Return the nodes of a norm and of the SiLU that alone reads it: all but the last, and the last."""
    normed = norm.outputs[0]
    readers = {user.op_type: user for user, _ in normed.uses()}
    if normed.is_graph_output():
        return [], norm
    if readers.keys() == {"Swish"} and "alpha" not in readers["Swish"].attributes:
        return [norm], readers["Swish"]
    if readers.keys() == {"Sigmoid", "Mul"} and len(normed.uses()) == 2:
        gate, product = readers["Sigmoid"].outputs[0], readers["Mul"]
        if not gate.is_graph_output() and [user for user, _ in gate.uses()] == [product]:
            return [norm, readers["Sigmoid"]], product
    return [], norm


def _write_out(graph: ir.Graph, norm: ir.Node) -> None:
    x, weight, bias = map(known, norm.inputs)
    groups = integers(graph, 0, norm.attributes["num_groups"].as_int(), -1)
    by_channel = integers(graph, _channels(norm), *[1] * (_rank(norm) - 2))
    epsilon = constant(graph, f"float32_{_epsilon(norm):.9g}", np.array(_epsilon(norm), np.float32))
    steps: list[ir.Node] = []

    def add(name: str, operator: str, *inputs: ir.Value) -> ir.Value:
        step = ir.node(operator, inputs)
        step.outputs[0].name = name
        step.meta[FLOAT32] = True
        steps.append(step)
        return step.outputs[0]

    sides = add("sides", "Shape", x)
    grouped = add("grouped", "Reshape", x, groups)
    centered = add(
        "centered", "Sub", grouped, add("mean", "ReduceMean", grouped, integers(graph, 2))
    )
    square = add("square", "Mul", centered, centered)
    variance = add("variance", "ReduceMean", square, integers(graph, 2))
    deviation = add("deviation", "Sqrt", add("raised", "Add", variance, epsilon))
    whole = add("normed", "Reshape", add("divided", "Div", centered, deviation), sides)
    scale = add("scale", "Reshape", weight, by_channel)
    shift = add("shift", "Reshape", bias, by_channel)
    add("shifted", "Add", add("scaled", "Mul", whole, scale), shift)
    replace(graph, norm, steps)


def _rank(norm: ir.Node) -> int:
    shape = known(norm.inputs[0]).shape
    assert shape is not None
    return len(shape)


def _channels(norm: ir.Node) -> int:
    weight = known(norm.inputs[1]).const_value
    assert weight is not None
    return weight.size


def _epsilon(norm: ir.Node) -> float:
    epsilon = norm.attributes.get("epsilon")
    return 1e-5 if epsilon is None else epsilon.as_float()
