"""8-bit products in a graph: QuantizeLinear and DequantizeLinear around convolutions and matrix products.

Engines with integer kernels run a product whose two inputs come from DequantizeLinear in 8 bits. Weights
are signed and symmetric with one scale per output channel; activations are unsigned with one scale and
one zero point per tensor (Krishnamoorthi 2018, arXiv:1806.08342). Everything between the products stays
as it is, and so does what depends on the time alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from .fp16 import TIME
from .rewrite import constant, known

GATES = "gates"
"""The input of ``gate``'s graph: a share from 0 (float) to 1 (8 bits) for each product, float32."""

Range = tuple[float, float]
"""The least and the largest value of an activation."""

_GATED = ("int8", "share", "error", "part")
_PRODUCTS = {"Conv", "Gemm", "MatMul"}
_LEVELS = 255  # steps of an unsigned activation
_LARGEST = 127  # of a signed weight
_SMALLEST_SCALE = 1e-12


def products(model: ir.Model) -> list[ir.Node]:
    """Return the products with constant weights that depend on more than the time, in order."""
    reached = {value for value in model.graph.inputs if value.name not in (TIME, GATES)}
    found = []
    for node in model.graph:
        if not any(value in reached for value in node.inputs):
            continue
        reached.update(node.outputs)
        if node.op_type in _PRODUCTS and _weight(node) is not None:
            found.append(node)
    return found


def observe(model: ir.Model) -> dict[str, tuple[str, str]]:
    """Make least and largest value of each product's activation an output; return both names by it."""
    graph, names = model.graph, {}
    for value in dict.fromkeys(known(node.inputs[0]) for node in products(model)):
        pair = (f"{value.name}_min", f"{value.name}_max")
        for name, kind in zip(pair, ("ReduceMin", "ReduceMax"), strict=True):
            least = _float(name, ())
            graph.append(ir.Node("", kind, [value], [ir.AttrInt64("keepdims", 0)], outputs=[least]))
            graph.outputs.append(least)
        names[str(value.name)] = pair
    return names


def quantize(model: ir.Model, ranges: Mapping[str, Range], held: Iterable[str] = ()) -> None:
    """Put every product of a graph in 8 bits, except those whose node is named in ``held``.

    ``ranges``: of each activation, by its name.
    """
    kept = set(held)
    for node in products(model):
        if node.name not in kept:
            for index, value in enumerate(_in_8_bits(model.graph, node, ranges)):
                node.replace_input_with(index, value)
    RemoveUnusedNodesPass()(model)  # includes the weights in float


def gate(model: ir.Model, ranges: Mapping[str, Range], chosen: Collection[str]) -> None:
    """Compute the products whose nodes are named both ways, and let the input ``gates`` choose.

    It has a share for each in the order of the graph. With one at 1, the graph's output shows what 8 bits
    cost in that product alone.
    """
    graph = model.graph
    nodes = [node for node in products(model) if node.name in chosen]
    gates = _float(GATES, (len(nodes),))
    graph.inputs.append(gates)
    for number, node in enumerate(nodes):
        exact = node.outputs[0]
        name = str(exact.name)
        exact.name, total = f"{name}_exact", _float(name)
        inputs = [*_in_8_bits(graph, node, ranges), *node.inputs[2:]]
        index = constant(graph, f"gate_{number}", np.array(number, np.int64))
        twin, share, error, part = (_float(f"{name}_{end}") for end in _GATED)
        exact.replace_all_uses_with(total, replace_graph_outputs=True)
        steps = [
            ir.Node("", node.op_type, inputs, node.attributes.values(), outputs=[twin]),
            ir.Node("", "Gather", [gates, index], outputs=[share]),
            ir.Node("", "Sub", [twin, exact], outputs=[error]),
            ir.Node("", "Mul", [error, share], outputs=[part]),
            ir.Node("", "Add", [exact, part], outputs=[total]),
        ]
        graph.insert_after(node, steps)


def _in_8_bits(
    graph: ir.Graph, node: ir.Node, ranges: Mapping[str, Range]
) -> tuple[ir.Value, ir.Value]:
    """Return a product's activation and weight behind DequantizeLinear; equal ones are made once."""
    return _activation(graph, known(node.inputs[0]), ranges), _quantized_weight(graph, node)


def _activation(graph: ir.Graph, value: ir.Value, ranges: Mapping[str, Range]) -> ir.Value:
    for user, index in value.uses():
        if user.op_type == "QuantizeLinear" and index == 0:
            return _dequantized(user.outputs[0])
    low, high = ranges[str(value.name)]
    low, high = min(low, 0.0), max(high, 0.0)  # zero must be exact: it pads convolutions
    step = max((high - low) / _LEVELS, _SMALLEST_SCALE)
    scale = constant(graph, f"{value.name}_scale", np.array(step, np.float32))
    zero = constant(graph, f"{value.name}_zero", np.array(np.rint(-low / step), np.uint8))
    whole = ir.Value(name=f"{value.name}_uint8", type=ir.TensorType(ir.DataType.UINT8))
    rounded = _float(f"{value.name}_rounded")
    steps = [
        ir.Node("", "QuantizeLinear", [value, scale, zero], outputs=[whole]),
        ir.Node("", "DequantizeLinear", [whole, scale, zero], outputs=[rounded]),
    ]
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], steps)
    else:
        graph.insert_after(producer, steps)
    return rounded


def _quantized_weight(graph: ir.Graph, node: ir.Node) -> ir.Value:
    stored, axis = known(_weight(node)), _channel_axis(node)
    name = f"{stored.name}_int8"
    if name in graph.initializers:
        return _dequantized(graph.initializers[name])
    weight = _numbers(stored).astype(np.float32)
    others = tuple(number for number in range(weight.ndim) if number != axis)
    scales = np.maximum(np.abs(weight).max(axis=others) / _LARGEST, _SMALLEST_SCALE)
    whole = np.rint(weight / np.expand_dims(scales, others)).astype(np.int8)
    inputs = [
        constant(graph, name, whole),
        constant(graph, f"{stored.name}_scale", scales.astype(np.float32)),
    ]
    rounded = _float(f"{stored.name}_rounded")
    step = ir.Node("", "DequantizeLinear", inputs, [ir.AttrInt64("axis", axis)], outputs=[rounded])
    graph.insert_before(graph[0], step)
    return rounded


def _dequantized(value: ir.Value) -> ir.Value:
    """Return the float value that an 8-bit one becomes."""
    user: ir.Node = next(iter(value.uses())).node
    return user.outputs[0]


def _weight(node: ir.Node) -> ir.Value | None:
    """Return the stored weight of a product, also if it is cast to float32; None if it has none."""
    value = node.inputs[1]
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "Cast":
        value = producer.inputs[0]
    is_matrix = value is not None and value.is_initializer() and len(value.shape or ()) >= 2
    return value if is_matrix else None


def _channel_axis(node: ir.Node) -> int:
    """Return the axis of a product's weight that is its output channel."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        return 0 if transposed is not None and transposed.as_int() else 1
    return len(known(_weight(node)).shape or ()) - 1


def _numbers(value: ir.Value) -> NDArray[Any]:
    """Return the numbers of an initializer."""
    assert value.const_value is not None
    return value.const_value.numpy()


def _float(name: str, shape: Sequence[int] | None = None) -> ir.Value:
    return ir.Value(
        name=name,
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=None if shape is None else ir.Shape(shape),
    )
