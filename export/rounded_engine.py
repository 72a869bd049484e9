"""Runs the graph of any target on ONNX Runtime's CPU, rounded as the engine of the target rounds.

On a CPU, ONNX Runtime computes most float16 operators in float32 and removes the roundings between
them; an overflow inside the graph would not be seen. Where every tensor is an output, they stay.
"""

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from ..runtime.engines.onnxruntime.session import open_model, running, signature
from ..runtime.errors import EngineError
from ..runtime.tensors import Array
from .graph.ort_group_norm import DOMAIN
from .graph.rewrite import FLOATS
from .graph.standard_operators import to_standard_operators


class RoundedEngine:
    """An ``.onnx`` file of any target as an Engine on the CPU. Needs memory for all tensors at once."""

    def __init__(self, path: Path) -> None:
        model = _load_runnable(path)
        own = [str(value.name) for value in model.graph.outputs]
        _mark(model)
        self._name = path.name
        self._session = open_model(ir.to_proto(model).SerializeToString(), path)
        with running(self._name):
            self.inputs, outputs = signature(self._session)
        self.outputs = {name: outputs[name] for name in own}

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on NumPy arrays."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        with running(self._name):
            arrays = self._session.run(list(self.outputs), inputs)
        return dict(zip(self.outputs, arrays, strict=True))


def load_marked(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    """Return a graph that runs on the CPU, with every float tensor that depends on inputs as an output.

    ``shapes`` fixes the shapes of the inputs. Raise EngineError if the file cannot be read.
    """
    model = _load_runnable(path)
    for value in model.graph.inputs:
        value.shape = ir.Shape(shapes[str(value.name)])
    _mark(model)
    return model


def _load_runnable(path: Path) -> ir.Model:
    """Return a graph in operators that run on the CPU. Raise EngineError if it cannot be read."""
    try:
        model = ir.load(path)
    except Exception as error:  # a damaged file may raise nearly anything
        raise EngineError(f"{path} cannot be read: {error}") from error
    return to_standard_operators(model) if DOMAIN in model.opset_imports else model


def _mark(model: ir.Model) -> None:
    """Make every float tensor that depends on inputs an output."""
    ShapeInferencePass()(model)  # an output needs a type
    computed = (
        value
        for node in model.graph
        if not all(v is None or v.is_initializer() for v in node.inputs)  # weights, in float32
        for value in node.outputs
    )
    model.graph.outputs.extend(v for v in computed if v.dtype in FLOATS and not v.is_graph_output())
