"""A graph pass that converts weights and activations to float16, with float32 islands.

Precision is decided in the ONNX file, because strongly typed engines follow the file. These stay in
float32:

- inputs, outputs, and all nodes before the first and after the last convolution or matrix product
  (ranges, clamps, the posterior's exponential);
- everything that depends on the time alone (sinusoids, the time embedding, its projections);
- attention, whose logits overflow float16 in SD 2, as one operator or as products and a softmax;
- the statistics of normalisations, by stash_type or by keeping the whole operator.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from ..errors import Fp16Error

TIME = "time"

_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_ISLANDS = {"Attention", "GlobalAveragePool", "InstanceNormalization", "ReduceMean", "Softmax"}
_FLOAT_INPUTS = {"Resize": (1, 2)}  # indices of inputs that are float32 by definition
_LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: ir.Model) -> None:
    """Convert a float32 graph in place. Raise Fp16Error where a weight overflows float16."""
    ShapeInferencePass()(model)  # the type of every value is needed below
    graph = model.graph
    islands = _islands(graph)
    for node in graph:
        if node not in islands:
            _lower(node)
    for node in list(graph):
        _cast_inputs(graph, node, node in islands)
    _cast_outputs(graph)
    RemoveUnusedNodesPass()(model)  # includes float32 weights without a reader


def _islands(graph: ir.Graph) -> set[ir.Node]:
    nodes = list(graph)
    states = [value for value in graph.inputs if value.name != TIME]
    from_state = _reached(nodes, states)
    products = {node for node in nodes if node.op_type in _PRODUCTS}
    behind_product = _reached(nodes, [v for node in products for v in node.outputs])
    before_product = _leading_to(nodes, products)
    return {
        node
        for node in nodes
        if node not in from_state
        or node.op_type in _ISLANDS
        or _is_product_of_activations(node)
        or (node not in products and not (node in behind_product and node in before_product))
    }


def _reached(nodes: Collection[ir.Node], values: Collection[ir.Value]) -> set[ir.Node]:
    """Return the nodes that depend on ``values``; ``nodes`` are in topological order."""
    known, reached = set(values), set()
    for node in nodes:
        if any(value in known for value in node.inputs):
            reached.add(node)
            known.update(node.outputs)
    return reached


def _leading_to(nodes: Collection[ir.Node], targets: set[ir.Node]) -> set[ir.Node]:
    """Return the nodes on which ``targets`` depend."""
    leading: set[ir.Node] = set()
    for node in reversed(list(nodes)):
        users = {user for value in node.outputs for user, _ in value.uses()}
        if any(user in targets or user in leading for user in users):
            leading.add(node)
    return leading


def _is_product_of_activations(node: ir.Node) -> bool:
    """Return whether both factors are computed, as in attention written as matrix products."""
    return node.op_type == "MatMul" and not any(
        value is not None and value.is_initializer() for value in node.inputs
    )


def _lower(node: ir.Node) -> None:
    """Mark a node's outputs as float16."""
    if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = ir.DataType.FLOAT16


def _cast_inputs(graph: ir.Graph, node: ir.Node, is_island: bool) -> None:
    """Convert a node's inputs to the node's precision."""
    float_inputs = _FLOAT_INPUTS.get(node.op_type, ())
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            continue
        single = is_island or index in float_inputs
        wanted = ir.DataType.FLOAT if single else ir.DataType.FLOAT16
        if value.dtype != wanted:
            node.replace_input_with(index, _converted(graph, value, wanted))


def _converted(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return the value in another precision: a converted weight or a Cast, shared by all users."""
    name = f"{value.name}_{'fp16' if dtype == ir.DataType.FLOAT16 else 'fp32'}"
    if value.is_initializer():
        if name not in graph.initializers:
            graph.register_initializer(_fp16_weight(value, name))
        return graph.initializers[name]
    for user, _ in value.uses():
        if user.op_type == "Cast" and user.outputs[0].name == name:
            return user.outputs[0]
    cast = ir.node("Cast", [value], attributes={"to": dtype})
    cast.outputs[0].name = name
    cast.outputs[0].dtype = dtype
    cast.outputs[0].shape = value.shape
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(producer, cast)
    return cast.outputs[0]


def _fp16_weight(value: ir.Value, name: str) -> ir.Value:
    """Return a weight in float16, converted only when the file is written, to save memory."""
    tensor = value.const_value
    assert tensor is not None
    array = tensor.numpy()
    largest = float(np.abs(array).max(initial=0.0))
    if largest > _LARGEST:
        raise Fp16Error(
            f"weight '{value.name}' must not exceed {_LARGEST:.0f} in float16, got {largest:.3g}; "
            "export without --fp16"
        )
    shape = ir.Shape(array.shape)

    def convert() -> ir.TensorProtocol:
        return ir.Tensor(array.astype(np.float16), name=name)

    return ir.Value(
        name=name,
        shape=shape,
        type=ir.TensorType(ir.DataType.FLOAT16),
        const_value=ir.LazyTensor(convert, dtype=ir.DataType.FLOAT16, shape=shape, name=name),
    )


def _cast_outputs(graph: ir.Graph) -> None:
    """Convert the graph's outputs back to float32; they keep their names."""
    for index, value in enumerate(graph.outputs):
        if value.dtype == ir.DataType.FLOAT16:
            name = value.name
            value.name = f"{name}_fp16"
            raised = _converted(graph, value, ir.DataType.FLOAT)
            raised.name = name
            graph.outputs[index] = raised
