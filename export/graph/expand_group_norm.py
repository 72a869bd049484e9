"""A graph pass that writes GroupNormalization out, with means that are taken in two stages.

Before: ``y = GroupNormalization(x)``.
After: ``m = mean(x); c = x - m; m' = m + mean(c); s = weight / sqrt(mean(c^2) + epsilon); y = (x - m') * s + bias``
in float32, where a group's mean is that of each row first, then that of the rows. ``mean(c^2)`` comes from L2
norms of rows, so that no square is stored, and ``c`` is not kept for ``y``. ONNX Runtime runs the branch
that comes later in the file first. ``x - m'`` therefore stands before the variance; otherwise both ``c`` and
``x - m'`` would be in memory at once.
Reason: ONNX Runtime's CPU adds all numbers of a group one after the other in float32, half a million at
512 x 512, and takes the variance as E[x^2] - E[x]^2. Rounding then falsifies the norms of large images,
and those of flat images entirely. It has no kernel for the operator, so that this is faster as well.
"""

from dataclasses import dataclass, field

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
    channels, spatial = weight.const_value.size, len(x.shape) - 2
    steps = _Steps(graph, norm.attributes["num_groups"].as_int(), channels, spatial)
    add = steps.add
    number = epsilon(norm)
    least = constant(graph, f"float32_{number:.9g}", np.array(number, np.float32))
    rough = steps.mean("rough", x)
    centered = add("centered", "Sub", x, steps.by_channel("rough", rough))
    exact = add("mean", "Add", rough, steps.mean("rest", centered))  # the first was rounded
    again = add(
        "again", "Sub", x, steps.by_channel("mean", exact)
    )  # before the variance: see above
    variance = steps.mean_square("variance", centered)
    inverse = add("inverse", "Reciprocal", add("deviation", "Sqrt", add("raised", "Add", variance, least)))  # fmt: skip
    shape = integers(graph, channels, *[1] * spatial)
    weights = add("weights", "Reshape", weight, shape)
    scale = add("scale", "Mul", steps.by_channel("inverse", inverse), weights)
    biases = add("biases", "Reshape", bias, shape)
    add("shifted", "Add", add("scaled", "Mul", again, scale), biases)
    replace(graph, norm, steps.nodes)


@dataclass
class _Steps:
    """The nodes that a norm becomes, in the order in which they are added."""

    graph: ir.Graph
    groups: int
    channels: int
    spatial: int
    """Axes behind the channels."""

    nodes: list[ir.Node] = field(default_factory=list)

    def add(self, name: str, operator: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """Add a node that stays in float32; return its output."""
        node = ir.node(operator, inputs, attributes)
        node.outputs[0].name = name
        node.meta[FLOAT32] = True
        self.nodes.append(node)
        return node.outputs[0]

    def mean(self, name: str, value: ir.Value) -> ir.Value:
        """Return the means of the groups, (batch, groups, 1)."""
        return self._of_rows(name, self.add(f"{name}_rows", "ReduceMean", value, self._last))

    def mean_square(self, name: str, value: ir.Value) -> ir.Value:
        """Return the mean squares of the groups, (batch, groups, 1)."""
        norms = self.add(f"{name}_norms", "ReduceL2", value, self._last)
        width = self.add(f"{name}_shape", "Shape", value, start=-1)
        number = self.add(f"{name}_width", "Cast", width, to=ir.DataType.FLOAT)
        square = self.add(f"{name}_square", "Mul", norms, norms)
        return self._of_rows(name, self.add(f"{name}_rows", "Div", square, number))

    def by_channel(self, name: str, value: ir.Value) -> ir.Value:
        """Return numbers of the groups as (batch, channels, 1, ...)."""
        each = integers(self.graph, 1, self.groups, self.channels // self.groups)
        shape = integers(self.graph, 0, self.channels, *[1] * self.spatial)
        wide = self.add(f"{name}_wide", "Expand", value, each)
        return self.add(f"{name}_channels", "Reshape", wide, shape)

    @property
    def _last(self) -> ir.Value:
        return integers(self.graph, self.spatial + 1)

    def _of_rows(self, name: str, rows: ir.Value) -> ir.Value:
        """Return the means of the groups from those of their rows."""
        grouped = self.add(
            f"{name}_groups", "Reshape", rows, integers(self.graph, 0, self.groups, -1)
        )
        return self.add(name, "ReduceMean", grouped, integers(self.graph, 2))


def epsilon(norm: ir.Node) -> float:
    """Return what a norm adds to the variance."""
    value = norm.attributes.get("epsilon")
    return 1e-5 if value is None else value.as_float()
