"""Ranges of activations, and what 8 bits cost in each product, measured by running the network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...runtime.bundle import relative_error
from ...runtime.engines.device import OnnxDevice
from ...runtime.tensors import Array
from ..graph.int8 import GATES, Range, gate, observe, products
from ..graph.weights import write_graphs
from .samples import Inputs

Advance = Callable[[float], None]

_GATED = 128
"""Products that are measured in one graph, which holds their weights twice."""


class Scratch:
    """Writes changed graphs of one stage into a folder and runs them, one at a time.

    ``device`` computes in float32; ``judge`` as the graph in 8 bits will run, between its products in
    bfloat16 where the processor has it.
    """

    def __init__(self, source: Path, folder: Path, device: OnnxDevice, judge: OnnxDevice) -> None:
        self._source, self._folder = source, folder
        self._device, self._judge = device, judge

    def load(self) -> ir.Model:
        """Return the stage's graph as the bundle has it."""
        return ir.load(self._source)

    def runner(
        self, model: ir.Model, name: str, *, judged: bool = False
    ) -> Callable[..., Mapping[str, Array]]:
        """Return a function that runs a graph; the one before is removed from the folder."""
        self.clear()
        path = self._folder / f"scratch-{name}.onnx"
        write_graphs({path: model}, path.with_suffix(".weights"), lambda _: None)
        return (self._judge if judged else self._device).open_file(path).run

    def clear(self) -> None:
        """Remove the graph that ran last."""
        for path in self._folder.glob("scratch-*"):
            path.unlink()


def measure_ranges(
    scratch: Scratch, samples: Sequence[Inputs], advance: Advance
) -> dict[str, Range]:
    """Return the least and the largest value of every product's activation over all samples."""
    model = scratch.load()
    names = observe(model)
    run = scratch.runner(model, "observed")
    lows, highs = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for sample in samples:
        found = run(**sample)
        for value, (low, high) in names.items():
            lows[value] = min(lows[value], float(found[low]))
            highs[value] = max(highs[value], float(found[high]))
        advance(1)
    return {value: (lows[value], highs[value]) for value in names}


def measure_costs(
    scratch: Scratch, ranges: Mapping[str, Range], sample: Inputs, advance: Advance
) -> dict[str, float]:
    """Return the relative error of the stage's outputs that 8 bits in one product alone cause, by node."""
    names = [str(node.name) for node in products(scratch.load())]
    costs = {}
    for start in range(0, len(names), _GATED):
        chosen = names[start : start + _GATED]
        model = scratch.load()
        gate(model, ranges, chosen)
        run = scratch.runner(model, "gated")
        exact = run(**sample, **{GATES: np.zeros(len(chosen), np.float32)})
        for node, gates in zip(chosen, np.eye(len(chosen), dtype=np.float32), strict=True):
            costs[node] = largest_error(run(**sample, **{GATES: gates}), exact)
            advance(1)
    return costs


def largest_error(found: Mapping[str, Array], exact: Mapping[str, Array]) -> float:
    """Return the largest relative error of a stage's outputs."""
    return max(relative_error(found[name], array) for name, array in exact.items())
