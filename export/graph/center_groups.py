"""A graph pass that subtracts each group's mean before GroupNormalization.

ONNX Runtime computes the variance of GroupNormalization as E[x^2] - E[x]^2 in float32. Flat images
have groups whose mean is hundreds of times their deviation; there the difference is rounding error
and may be negative. Shifting a group does not change the result, so the pass makes the variance
accurate in any runtime.
"""

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .rewrite import integers, known


def center_groups(model: ir.Model) -> None:
    """Insert the subtraction before every GroupNormalization of the graph."""
    ShapeInferencePass()(model)  # ranks are needed: the VAE's attention has norms of rank 3
    graph = model.graph
    for node in list(graph):
        if node.op_type == "GroupNormalization":
            _center(graph, node)


def _center(graph: ir.Graph, node: ir.Node) -> None:
    x, weight = map(known, node.inputs[:2])
    assert x.shape is not None
    assert weight.const_value is not None
    channels, groups = weight.const_value.size, node.attributes["num_groups"].as_int()
    steps = [
        ir.node("GlobalAveragePool", [x]),
        ir.node("Reshape", [None, integers(graph, 0, groups, channels // groups)]),
        ir.node("ReduceMean", [None, integers(graph, 2)], attributes={"keepdims": 1}),
        ir.node("Expand", [None, integers(graph, 1, groups, channels // groups)]),
        ir.node("Reshape", [None, integers(graph, 0, channels, *[1] * (len(x.shape) - 2))]),
    ]
    value = x
    for number, step in enumerate(steps):
        step.replace_input_with(0, value)
        value = step.outputs[0]
        value.name = f"{node.outputs[0].name}_mean{number}"
        value.type = ir.TensorType(ir.DataType.FLOAT)
    centered = ir.node("Sub", [x, value])
    centered.outputs[0].name = f"{node.outputs[0].name}_centered"
    centered.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    centered.outputs[0].shape = x.shape
    graph.insert_before(node, [*steps, centered])
    node.replace_input_with(0, centered.outputs[0])
