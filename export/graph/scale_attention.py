"""A graph pass that scales Q and K before their product instead of the product after it.

Before: Attention(Q, K, V), whose product is scaled by d^-1/2 (head size d), possibly after it was
stored. After: Attention(Q * d^-1/4, K * d^-1/4, V, scale=1). Reason: in SD 2 the unscaled product
overflows float16, and fused kernels of NVIDIA expect scaled inputs.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .rewrite import constant, known

LAYOUT = {"Expand", "Reshape", "Transpose", "Unsqueeze"}
"""Operators that only arrange numbers. Those before an Attention may have scaled ones afterwards."""


def scale_attention(model: ir.Model) -> None:
    """Scale the inputs of every Attention of the graph."""
    ShapeInferencePass()(model)
    for node in list(model.graph):
        if node.op_type == "Attention":
            factor = input_factor(node)
            for index in (0, 1):
                _scale(model.graph, node, index, factor)
            node.attributes["scale"] = ir.AttrFloat32("scale", 1.0)


def input_factor(attention: ir.Node) -> float:
    """Return the factor of Q and of K whose square is the scale of the product."""
    scale = attention.attributes.get("scale")
    if scale is not None:
        return float(np.sqrt(scale.as_float()))
    return float(head_size(attention) ** -0.25)


def head_size(attention: ir.Node) -> int:
    """Return the number of channels of one head; Q is (batch, heads, positions, channels)."""
    shape = known(attention.inputs[0]).shape
    assert shape is not None
    size = shape[-1]
    assert isinstance(size, int)
    return size


def _scale(graph: ir.Graph, node: ir.Node, index: int, factor: float) -> None:
    """Multiply an input by a factor, where it is computed rather than where it was rearranged.

    Directly behind a matrix product, engines fuse the multiplication with it.
    """
    value = known(node.inputs[index])
    user, position = node, index
    while (
        (producer := value.producer()) is not None
        and producer.op_type in LAYOUT
        and len(list(value.uses())) == 1
    ):
        user, position, value = producer, 0, known(producer.inputs[0])
    user.replace_input_with(position, scaled(graph, value, user, factor))


def scaled(graph: ir.Graph, value: ir.Value, user: ir.Node, factor: float) -> ir.Value:
    """Return ``value * factor``, computed before ``user``; a constant is multiplied here."""
    if value.is_initializer():
        assert value.const_value is not None
        array = (value.const_value.numpy() * np.float32(factor)).astype(np.float32)
        return constant(graph, f"{value.name}_scaled", array)
    number = constant(graph, f"float32_{factor:.9g}", np.array(factor, np.float32))
    product = ir.node("Mul", [value, number])
    product.outputs[0].name = f"{value.name}_scaled_{user.name}"
    product.outputs[0].type = value.type
    product.outputs[0].shape = value.shape
    graph.insert_before(user, product)
    return product.outputs[0]
