"""A graph pass for parsers that read ONNX's operator set 18, such as that of TensorRT 10.3.

GroupNormalization(x) becomes InstanceNormalization over each group, with scale and bias behind it
(operator set 18 defines another GroupNormalization, with one scale per group). Gelu becomes
x / 2 * (1 + erf(x / sqrt 2)). Attention must have been decomposed before.
"""

import math

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .expand_group_norm import epsilon
from .fp16 import FLOAT32
from .rewrite import constant, integers, known, replace

_OPSET = 18
_LATER_ATTRIBUTES = {"Cast": ("saturate", "round_mode"), "Reshape": ("allowzero",)}
_LATER = {"Attention", "GroupNormalization", "Gelu", "RMSNormalization", "RotaryEmbedding", "Swish"}


def to_opset18(model: ir.Model) -> None:
    """Rewrite the operators that came after operator set 18."""
    ShapeInferencePass()(model)
    graph = model.graph
    for node in list(graph):
        if node.op_type == "GroupNormalization":
            replace(graph, node, _group_norm(graph, node))
        elif node.op_type == "Gelu":
            replace(graph, node, _gelu(graph, node))
    for node in graph:
        for name in _LATER_ATTRIBUTES.get(node.op_type, ()):
            node.attributes.pop(name, None)
    left = sorted({node.op_type for node in graph} & _LATER)
    if left:
        raise ValueError(f"operator set {_OPSET} has no {', '.join(left)}")
    model.opset_imports[""] = _OPSET


def _group_norm(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    x, weight, bias = map(known, node.inputs[:3])
    assert x.shape is not None
    groups, rank = node.attributes["num_groups"].as_int(), len(x.shape)
    ones = constant(graph, f"ones_{groups}", np.ones(groups, np.float32))
    zeros = constant(graph, f"zeros_{groups}", np.zeros(groups, np.float32))
    whole = ir.node("Shape", [x])
    grouped = ir.node("Reshape", [x, integers(graph, 0, groups, -1)])
    grouped.outputs[0].name = "grouped"
    normed = ir.node(
        "InstanceNormalization", [grouped.outputs[0], ones, zeros], {"epsilon": epsilon(node)}
    )
    back = ir.node("Reshape", [normed.outputs[0], whole.outputs[0]])
    gained = ir.node("Mul", [back.outputs[0], _by_channel(graph, weight, rank)])
    shifted = ir.node("Add", [gained.outputs[0], _by_channel(graph, bias, rank)])
    for step in (back, gained, shifted):
        step.meta[FLOAT32] = True  # rounded once, behind the norm
    return [whole, grouped, normed, back, gained, shifted]


def _gelu(graph: ir.Graph, node: ir.Node) -> list[ir.Node]:
    if "approximate" in node.attributes and node.attributes["approximate"].as_string() != "none":
        raise ValueError("Gelu must be exact, got an approximation")
    x = node.inputs[0]
    shrunk = ir.node("Mul", [x, constant(graph, "root_half", np.array(math.sqrt(0.5), np.float32))])
    erf = ir.node("Erf", [shrunk.outputs[0]])
    raised = ir.node("Add", [erf.outputs[0], constant(graph, "one", np.array(1.0, np.float32))])
    half = ir.node("Mul", [x, constant(graph, "half", np.array(0.5, np.float32))])
    half.outputs[0].name = "half"
    return [shrunk, erf, raised, half, ir.node("Mul", [half.outputs[0], raised.outputs[0]])]


def _by_channel(graph: ir.Graph, weight: ir.Value, rank: int) -> ir.Value:
    """Return a weight (channels,) as (channels, 1, ...)."""
    assert weight.const_value is not None
    array = weight.const_value.numpy()
    return constant(graph, f"{weight.name}_axes{rank - 1}", array.reshape(-1, *[1] * (rank - 2)))
