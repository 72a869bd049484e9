"""A graph pass that writes GroupNormalization out, with means that are taken in two stages.

Before: ``y = GroupNormalization(x)``.
After: ``c = x - mean(x); s = weight / sqrt(mean(c * c) + epsilon); y = c * s + (bias - mean(c) * s)`` in
float32, where a group's mean is that of each row first, then that of the rows.
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
    steps: list[ir.Node] = []

    def add(name: str, operator: str, *inputs: ir.Value) -> ir.Value:
        step = ir.node(operator, inputs)
        step.outputs[0].name = name
        step.meta[FLOAT32] = True
        steps.append(step)
        return step.outputs[0]

    def mean(name: str, value: ir.Value) -> ir.Value:
        """Return the means of the groups, (batch, groups, 1)."""
        rows = add(f"{name}_rows", "ReduceMean", value, integers(graph, len(axes) + 1))
        grouped = add(f"{name}_groups", "Reshape", rows, integers(graph, 0, groups, -1))
        return add(name, "ReduceMean", grouped, integers(graph, 2))

    def by_channel(name: str, value: ir.Value) -> ir.Value:
        """Return numbers of the groups as (batch, channels, 1, ...)."""
        wide = add(f"{name}_wide", "Expand", value, integers(graph, 1, groups, channels // groups))
        return add(f"{name}_channels", "Reshape", wide, integers(graph, 0, channels, *axes))

    number = epsilon(norm)
    least = constant(graph, f"float32_{number:.9g}", np.array(number, np.float32))
    centered = add("centered", "Sub", x, by_channel("mean", mean("mean", x)))
    variance = mean("variance", add("square", "Mul", centered, centered))
    inverse = add("inverse", "Reciprocal", add("deviation", "Sqrt", add("raised", "Add", variance, least)))  # fmt: skip
    weights = add("weights", "Reshape", weight, integers(graph, channels, *axes))
    scale = add("scale", "Mul", by_channel("inverse", inverse), weights)
    biases = add("biases", "Reshape", bias, integers(graph, channels, *axes))
    rest = by_channel("rest", mean("rest", centered))  # the mean was rounded
    shift = add("shift", "Sub", biases, add("offset", "Mul", rest, scale))
    add("shifted", "Add", add("scaled", "Mul", centered, scale), shift)
    replace(graph, norm, steps)


def epsilon(norm: ir.Node) -> float:
    """Return what a norm adds to the variance."""
    value = norm.attributes.get("epsilon")
    return 1e-5 if value is None else value.as_float()
