"""A graph pass for ONNX Runtime's CUDA provider: GroupNormalization becomes its own operator GroupNorm.

Before: ``y = GroupNormalization(x)``, perhaps with ``y * Sigmoid(y)`` after it.
After: ``Transpose -> com.microsoft.GroupNorm (channels last, SiLU folded in) -> Transpose``.
Reason: the CUDA provider has no kernel for GroupNormalization and runs it as about 20 operators; its
GroupNorm takes two kernels. The transposes cancel with those that the provider puts around convolutions
(its option ``prefer_nhwc``).

The kernel reads pairs of channels of one group and gives at most 512 channels to a block, so a group needs
an even number of channels, at most 512 (contrib_ops/cuda/diffusion/group_norm_impl.cu). Other norms are
written out in float32.
"""

from itertools import pairwise

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .expand_group_norm import epsilon, expand
from .rewrite import integers, known, replace

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
            expand(graph, node)


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
            "epsilon": epsilon(norm),
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


def _rank(norm: ir.Node) -> int:
    shape = known(norm.inputs[0]).shape
    assert shape is not None
    return len(shape)


def _channels(norm: ir.Node) -> int:
    weight = known(norm.inputs[1]).const_value
    assert weight is not None
    return weight.size
