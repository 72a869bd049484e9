"""Rewrites ONNX Runtime's own operators as standard ones, to run a graph for CUDA on the CPU.

Before: ``com.microsoft.GroupNorm``, which has a CUDA kernel only.
After: ``Transpose -> GroupNormalization -> x * Sigmoid(x) -> Transpose`` in float32, the kernel's precision.
Reason: an export is verified on a machine without a GPU.
"""

from typing import Any

import onnx_ir as ir

from .expand_group_norm import expand_group_norms
from .ort_group_norm import DOMAIN, OPERATOR
from .rewrite import known, replace


def to_standard_operators(model: ir.Model) -> ir.Model:
    """Return a copy of the graph that gives the same numbers with standard operators only.

    The weights are shared. Raise ValueError for an operator without such a form.
    """
    copy = model.clone()
    for node in list(copy.graph):
        if node.domain == DOMAIN:
            if node.op_type != OPERATOR:
                raise ValueError(f"{DOMAIN}.{node.op_type} has no form in standard operators")
            _write_out(copy.graph, node)
    copy.opset_imports.pop(DOMAIN, None)
    expand_group_norms(copy)
    return copy


def _write_out(graph: ir.Graph, kernel: ir.Node) -> None:
    x, weight, bias = map(known, kernel.inputs)
    groups, epsilon = kernel.attributes["groups"].as_int(), kernel.attributes["epsilon"].as_float()
    steps: list[ir.Node] = []

    def add(name: str, operator: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        steps.append(ir.node(operator, inputs, attributes))
        steps[-1].outputs[0].name = name
        return steps[-1].outputs[0]

    single = add("single", "Cast", [x], to=ir.DataType.FLOAT)
    turned = add("turned", "Transpose", [single], perm=(0, 3, 1, 2))
    y = add(
        "normed", "GroupNormalization", [turned, weight, bias], num_groups=groups, epsilon=epsilon
    )
    if kernel.attributes["activation"].as_int():
        y = add("product", "Mul", [y, add("gate", "Sigmoid", [y])])
    y = add("back", "Transpose", [y], perm=(0, 2, 3, 1))
    add("result", "Cast", [y], to=kernel.outputs[0].dtype or ir.DataType.FLOAT)
    replace(graph, kernel, steps)
