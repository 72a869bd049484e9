"""A graph pass for ONNX Runtime's CUDA provider: GroupNormalization becomes its own operator GroupNorm.

Before: ``y = GroupNormalization(x)``, perhaps with ``y * Sigmoid(y)`` after it.
After: ``Transpose -> com.microsoft.GroupNorm (channels last, SiLU folded in) -> Transpose``.
Reason: the CUDA provider has no kernel for GroupNormalization and runs it as about 20 operators; its
GroupNorm takes two kernels. The transposes cancel with those that the provider puts around convolutions
(its option ``prefer_nhwc``).

The kernel reads pairs of channels of one group and gives at most 512 channels to a block, so a group needs
an even number of channels, at most 512 (contrib_ops/cuda/diffusion/group_norm_impl.cu). Other norms stay
GroupNormalization, with each group's mean taken off first.
"""

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .center_groups import center_groups

DOMAIN = "com.microsoft"
OPERATOR = "GroupNorm"
_MOST_CHANNELS = 512  # of a group
_ONE = "int64_1"


def use_ort_group_norm(model: ir.Model) -> None:
    """Replace the norms of a float32 graph that the CUDA kernel takes; center the groups of the others.

    Scale and bias stay float32 in a float16 graph; the kernel takes nothing else.
    """
    ShapeInferencePass()(model)  # ranks are needed: the VAE's attention has norms of rank 3
    graph = model.graph
    for node in list(graph):
        if node.op_type == "GroupNormalization" and _fits(node):
            _replace(graph, node)
            model.opset_imports[DOMAIN] = 1
    center_groups(model)


def _fits(node: ir.Node) -> bool:
    x, weight = node.inputs[:2]
    assert x is not None
    assert x.shape is not None
    assert weight is not None
    assert weight.const_value is not None
    in_group = weight.const_value.size // node.attributes["num_groups"].as_int()
    return len(x.shape) in (3, 4) and in_group % 2 == 0 and in_group <= _MOST_CHANNELS


def _replace(graph: ir.Graph, norm: ir.Node) -> None:
    x, weight, bias = norm.inputs
    assert x is not None
    silu = _silu(norm)
    end = norm if silu is None else silu[-1]
    result = end.outputs[0]
    chain = _chain(graph, norm, x, is_activated=silu is not None)
    value = x
    for number, step in enumerate(chain):
        step.replace_input_with(0, value)
        value = step.outputs[0]
        value.name = f"{norm.outputs[0].name}_nhwc{number}"
        value.type = ir.TensorType(ir.DataType.FLOAT)
    kernel = next(step for step in chain if step.op_type == OPERATOR)
    kernel.replace_input_with(1, weight)
    kernel.replace_input_with(2, bias)
    value.shape = x.shape
    graph.insert_before(norm, chain)
    ir.convenience.replace_all_uses_with(result, value, replace_graph_outputs=True)
    value.name = result.name
    graph.remove([norm, *(silu or ())], safe=True)


def _chain(graph: ir.Graph, norm: ir.Node, x: ir.Value, is_activated: bool) -> list[ir.Node]:
    """Return the nodes that replace a norm; a norm of rank 3 is that of an image one pixel high."""
    assert x.shape is not None
    is_image = len(x.shape) == 4
    there, back = ((0, 2, 3, 1), (0, 3, 1, 2)) if is_image else ((0, 2, 1), (0, 2, 1))
    epsilon = norm.attributes.get("epsilon")
    kernel = ir.node(
        OPERATOR,
        [None, None, None],
        domain=DOMAIN,
        attributes={
            "groups": norm.attributes["num_groups"].as_int(),
            "epsilon": 1e-5 if epsilon is None else epsilon.as_float(),
            "activation": int(is_activated),
            "channels_last": 1,
        },
    )
    shown = [kernel]
    if not is_image:
        one = _one(graph)
        shown = [ir.node("Unsqueeze", [None, one]), kernel, ir.node("Squeeze", [None, one])]
    return [
        ir.node("Transpose", [None], attributes={"perm": there}),
        *shown,
        ir.node("Transpose", [None], attributes={"perm": back}),
    ]


def _silu(norm: ir.Node) -> tuple[ir.Node, ...] | None:
    """Return the nodes of a SiLU that alone reads a norm, last one last, or None."""
    y = norm.outputs[0]
    users = [user for user, _ in y.uses()]
    if y.is_graph_output():
        return None
    if [user.op_type for user in users] == ["Swish"] and "alpha" not in users[0].attributes:
        return (users[0],)
    sigmoid = next((user for user in users if user.op_type == "Sigmoid"), None)
    product = next((user for user in users if user.op_type == "Mul"), None)
    if len(users) != 2 or sigmoid is None or product is None:
        return None
    gate = sigmoid.outputs[0]
    is_silu = not gate.is_graph_output() and [user for user, _ in gate.uses()] == [product]
    return (sigmoid, product) if is_silu else None


def _one(graph: ir.Graph) -> ir.Value:
    """Return the constant [1]."""
    if _ONE not in graph.initializers:
        value = ir.Value(
            name=_ONE,
            shape=ir.Shape([1]),
            type=ir.TensorType(ir.DataType.INT64),
            const_value=ir.tensor([1], dtype=ir.DataType.INT64, name=_ONE),
        )
        graph.register_initializer(value)
    return graph.initializers[_ONE]
