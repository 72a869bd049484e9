"""Graph passes for float16: one for engines that compute in it, one that only stores weights in it.

``to_fp16`` decides precision in the ONNX file, because strongly typed engines follow the file. These
stay in float32:

- inputs, outputs, and all nodes before the first and after the last convolution or matrix product
  (ranges, clamps, the posterior's exponential);
- everything that depends on the time alone (sinusoids, the time embedding, its projections);
- sums over many values (pooling, means) and the statistics of normalisations, by stash_type or by
  keeping the whole operator;
- nodes that an earlier pass marked by ``meta["float32"]``.

Attention is float16: fused kernels take nothing else and accumulate in float32. Constants, such as
the keys of the folded prompt, take the precision of the nodes that read them.

``store_fp16`` stores the same weights in float16 and computes in float32, for engines on a CPU, where
float16 arithmetic is slow.
"""

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from ..errors import Fp16Error
from .rewrite import FLOATS

TIME = "time"
FLOAT32 = "float32"
"""Key of ``node.meta``; a node that has it stays in float32."""

_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_ISLANDS = {"GlobalAveragePool", "InstanceNormalization", "ReduceMean"}
_SHAPES = {"Shape", "Size"}
_FLOAT_INPUTS = {"GroupNorm": (1, 2), "Resize": (1, 2)}  # indices; float32 by definition
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


def store_fp16(model: ir.Model) -> None:
    """Store in float16 what ``to_fp16`` stores in it, with a Cast behind. Raise Fp16Error likewise."""
    ShapeInferencePass()(model)
    graph = model.graph
    islands = _islands(graph)
    for value in list(graph.initializers.values()):
        is_half = any(
            node not in islands and index not in _FLOAT_INPUTS.get(node.op_type, ())
            for node, index in value.uses()
        )
        if is_half and value.dtype == ir.DataType.FLOAT:
            stored = _fp16_weight(value, f"{value.name}_fp16")
            graph.register_initializer(stored)
            cast = _new_cast(stored, f"{value.name}_fp32", ir.DataType.FLOAT)
            graph.insert_before(graph[0], cast)
            value.replace_all_uses_with(cast.outputs[0])
    RemoveUnusedNodesPass()(model)


def _islands(graph: ir.Graph) -> set[ir.Node]:
    nodes = list(graph)
    from_input = _reached(nodes, graph.inputs)
    from_state = _reached(nodes, [value for value in graph.inputs if value.name != TIME])
    products = {node for node in nodes if node.op_type in _PRODUCTS and node in from_input}
    behind_product = _reached(nodes, [v for node in products for v in node.outputs])
    before_product = _leading_to(nodes, products)
    islands: set[ir.Node] = set()
    for node in reversed(nodes):
        if node not in from_input:  # a constant
            users = {user for value in node.outputs for user, _ in value.uses()}
            is_island = users <= islands
        else:
            is_inside = node in products or (node in behind_product and node in before_product)
            is_island = node not in from_state or not is_inside or node.op_type in _ISLANDS
        if is_island or FLOAT32 in node.meta:
            islands.add(node)
    return islands


def _reached(nodes: Collection[ir.Node], values: Collection[ir.Value]) -> set[ir.Node]:
    """Return the nodes that numbers from ``values`` reach; ``nodes`` are in topological order.

    Shapes are no numbers.
    """
    known, reached = set(values), set()
    for node in nodes:
        if any(value in known for value in node.inputs):
            reached.add(node)
            if node.op_type not in _SHAPES:
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


def _lower(node: ir.Node) -> None:
    """Mark a node's outputs as float16."""
    if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT:
            # a new type, because a clone shares that of its original
            value.type = ir.TensorType(ir.DataType.FLOAT16)


def _cast_inputs(graph: ir.Graph, node: ir.Node, is_island: bool) -> None:
    """Convert a node's inputs to the node's precision."""
    float_inputs = _FLOAT_INPUTS.get(node.op_type, ())
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype not in FLOATS:
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
    cast = _new_cast(value, name, dtype)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], cast)
    else:
        graph.insert_after(producer, cast)
    return cast.outputs[0]


def _new_cast(value: ir.Value, name: str, dtype: ir.DataType) -> ir.Node:
    """Return a Cast of a value whose output has this name; it is not in the graph yet."""
    cast = ir.node("Cast", [value], attributes={"to": dtype})
    cast.outputs[0].name = name
    cast.outputs[0].dtype = dtype
    cast.outputs[0].shape = value.shape
    return cast


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
