"""A graph pass that writes GroupNormalization out, with means that are taken in two stages.

Before: ``y = GroupNormalization(x)``.
After: ``m = mean(x); c = x - m; m' = m + mean(c); s = weight / sqrt(mean(c^2) + epsilon); y = (x - m') * s + bias``
in float32, where a group's mean is that of each row first, then that of the rows. ``mean(c^2)`` comes from L2
norms of rows, so that no square is stored, and ``c`` is not kept for ``y``. ONNX Runtime takes the later of two
inputs first; ``x - m'`` therefore stands before the variance, or ``c`` would live beside it.
Reason: ONNX Runtime's CPU adds all numbers of a group one after the other in float32, half a million at
512 x 512, and takes the variance as E[x^2] - E[x]^2. Rounding then falsifies the norms of large images,
and those of flat images entirely. It has no kernel for the operator, so that this is faster as well.
"""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .fp16 import FLOAT32
from .rewrite import constant, integers, known, replace


def expand_group_norms(model: ir.Model) -> None:
    """Write out every GroupNormalization of the graph."""
    ShapeInferencePass()(model)  # ranks are needed: the VAE's attention has norms of rank 3
    for node in list(model.graph):
        if node.op_type == "GroupNormalization":
            expand(model.graph, node)


def expand(graph: ir.Graph, norm: ir.Node) -> None:
    """Write out one norm, whose input has a known rank; the steps stay in float32."""
    x, weight, bias = map(known, norm.inputs)
    assert x.shape is not None
    assert weight.const_value is not None
    groups, channels = norm.attributes["num_groups"].as_int(), weight.const_value.size
    axes = [1] * (len(x.shape) - 2)
    last = integers(graph, len(axes) + 1)
    steps: list[ir.Node] = []

    def add(name: str, operator: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        step = ir.node(operator, inputs, attributes)
        step.outputs[0].name = name
        step.meta[FLOAT32] = True
        steps.append(step)
        return step.outputs[0]

    def of_groups(name: str, rows: ir.Value) -> ir.Value:
        """Return means of the groups' rows, (batch, groups, 1)."""
        grouped = add(f"{name}_groups", "Reshape", rows, integers(graph, 0, groups, -1))
        return add(name, "ReduceMean", grouped, integers(graph, 2))

    def mean(name: str, value: ir.Value) -> ir.Value:
        return of_groups(name, add(f"{name}_rows", "ReduceMean", value, last))

    def mean_square(name: str, value: ir.Value) -> ir.Value:
        norms = add(f"{name}_norms", "ReduceL2", value, last)
        width = add(f"{name}_shape", "Shape", value, start=-1)
        number = add(f"{name}_width", "Cast", width, to=ir.DataType.FLOAT)
        square = add(f"{name}_square", "Mul", norms, norms)
        return of_groups(name, add(f"{name}_rows", "Div", square, number))

    def by_channel(name: str, value: ir.Value) -> ir.Value:
        """Return numbers of the groups as (batch, channels, 1, ...)."""
        wide = add(f"{name}_wide", "Expand", value, integers(graph, 1, groups, channels // groups))
        return add(f"{name}_channels", "Reshape", wide, integers(graph, 0, channels, *axes))

    number = epsilon(norm)
    least = constant(graph, f"float32_{number:.9g}", np.array(number, np.float32))
    rough = mean("rough", x)
    centered = add("centered", "Sub", x, by_channel("rough", rough))
    exact = add("mean", "Add", rough, mean("rest", centered))  # the first was rounded
    again = add("again", "Sub", x, by_channel("mean", exact))  # before the variance: see above
    variance = mean_square("variance", centered)
    inverse = add("inverse", "Reciprocal", add("deviation", "Sqrt", add("raised", "Add", variance, least)))  # fmt: skip
    weights = add("weights", "Reshape", weight, integers(graph, channels, *axes))
    scale = add("scale", "Mul", by_channel("inverse", inverse), weights)
    biases = add("biases", "Reshape", bias, integers(graph, channels, *axes))
    add("shifted", "Add", add("scaled", "Mul", again, scale), biases)
    replace(graph, norm, steps)


def epsilon(norm: ir.Node) -> float:
    """Return what a norm adds to the variance."""
    value = norm.attributes.get("epsilon")
    return 1e-5 if value is None else value.as_float()
