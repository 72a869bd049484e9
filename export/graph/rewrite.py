"""Steps that graph passes share: constants, and replacing one node by several."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_DTYPES = {
    np.dtype(np.float32): ir.DataType.FLOAT,
    np.dtype(np.float16): ir.DataType.FLOAT16,
    np.dtype(np.int64): ir.DataType.INT64,
    np.dtype(np.int8): ir.DataType.INT8,
    np.dtype(np.uint8): ir.DataType.UINT8,
}


FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
"""The types of a network's numbers; integers are shapes."""


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Return the initializer of this name; create it if it does not exist."""
    if name not in graph.initializers:
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(_DTYPES[array.dtype]),
            const_value=ir.Tensor(np.asarray(array), name=name),
        )
        graph.register_initializer(value)
    return graph.initializers[name]


def integers(graph: ir.Graph, *numbers: int) -> ir.Value:
    """Return a constant list of integers."""
    name = f"int64_{'_'.join(map(str, numbers))}"
    return constant(graph, name, np.array(numbers, np.int64))


def replace(graph: ir.Graph, node: ir.Node, steps: Sequence[ir.Node]) -> None:
    """Put ``steps`` in the place of a node; the last one gives its output."""
    old, new = node.outputs[0], steps[-1].outputs[0]
    for step in steps[:-1]:
        for value in step.outputs:
            value.name = f"{old.name}_{value.name or step.op_type.lower()}"
            if value.type is None:
                is_shape = step.op_type == "Shape"
                value.type = ir.TensorType(ir.DataType.INT64 if is_shape else ir.DataType.FLOAT)
    new.name, new.type, new.shape = old.name, old.type, old.shape
    old.name = f"{old.name}_whole"
    graph.insert_before(node, steps)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def known(value: ir.Value | None) -> ir.Value:
    """Return an input that must exist."""
    assert value is not None
    return value
