"""Rewrites ONNX Runtime's own operators as standard ones, to run a graph for CUDA on the CPU.

Before: ``com.microsoft.GroupNorm``, which has a CUDA kernel only.
After: ``Transpose -> GroupNormalization -> x * Sigmoid(x) -> Transpose`` in float32, the kernel's precision.
Reason: an export is verified on a machine without a GPU.
"""

from itertools import pairwise

import onnx_ir as ir

from .center_groups import center_groups
from .ort_group_norm import DOMAIN, OPERATOR


def to_standard_operators(model: ir.Model) -> ir.Model:
    """Return a copy of the graph that gives the same numbers with standard operators only.

    The weights are shared. Raise ValueError for an operator without such a form.
    """
    copy = model.clone()
    for node in list(copy.graph):
        if node.domain == DOMAIN:
            _replace(copy.graph, node)
    copy.opset_imports.pop(DOMAIN, None)
    center_groups(copy)
    return copy


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    if node.op_type != OPERATOR:
        raise ValueError(f"{DOMAIN}.{node.op_type} has no form in standard operators")
    x, weight, bias = node.inputs
    assert x is not None
    groups, epsilon, is_activated = (
        node.attributes["groups"].as_int(),
        node.attributes["epsilon"].as_float(),
        node.attributes["activation"].as_int() == 1,
    )
    dtype = x.dtype or ir.DataType.FLOAT
    chain = [
        ir.node("Cast", [x], attributes={"to": ir.DataType.FLOAT}),
        ir.node("Transpose", [None], attributes={"perm": (0, 3, 1, 2)}),
        ir.node(
            "GroupNormalization",
            [None, weight, bias],
            attributes={"num_groups": groups, "epsilon": epsilon},
        ),
        *([ir.node("Sigmoid", [None]), ir.node("Mul", [None, None])] if is_activated else ()),
        ir.node("Transpose", [None], attributes={"perm": (0, 2, 3, 1)}),
        ir.node("Cast", [None], attributes={"to": dtype}),
    ]
    for number, (before, step) in enumerate(pairwise(chain)):
        before.outputs[0].name = f"{node.outputs[0].name}_standard{number}"
        before.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        step.replace_input_with(0, before.outputs[0])
        if step.op_type == "Mul":
            step.replace_input_with(1, before.inputs[0])
    result = node.outputs[0]
    chain[-1].outputs[0].type = result.type
    chain[-1].outputs[0].shape = result.shape
    graph.insert_before(node, chain)
    ir.convenience.replace_all_uses_with(result, chain[-1].outputs[0], replace_graph_outputs=True)
    chain[-1].outputs[0].name = result.name
    graph.remove(node, safe=True)
