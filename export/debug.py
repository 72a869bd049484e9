"""Names the layer at which a graph departs from the one for the CPU: ``dossr-export --debug``.

Polygraphy runs the graph for the CPU, which computes in float32, and the graph for another target on ONNX
Runtime's CPU and compares every tensor that both name: the passes keep the names of what they rewrite.
All tensors are outputs of the run, so float16 tensors are rounded as a GPU rounds them. Otherwise ONNX
Runtime, which has no float16 kernels on a CPU, would remove the roundings between them.

Where this machine has a GPU and TensorRT, the engine runs as well; only its outputs can be compared.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ..runtime.bundle import Bundle, GoldenCase, Precision, Target, relative_error
from ..runtime.engines.onnxruntime.session import open_model, running
from ..runtime.engines.tensorrt.library import LIBRARIES, Library, select_library
from ..runtime.engines.tensorrt.options import BuildOptions
from ..runtime.engines.tensorrt.progress import BuildProgress
from ..runtime.engines.tensorrt.support import target_of
from ..runtime.errors import BundleError, EngineError
from ..runtime.hardware import Gpu
from ..runtime.tensors import Array
from .graph.rewrite import FLOATS
from .graph.scale_attention import LAYOUT
from .rounded_engine import load_marked
from .verify import BOUNDS

_REFERENCE: Target = "cpu"


@dataclass(frozen=True)
class Layer:
    """A node of the graph for the CPU; errors are relative to it, in the Euclidean norm."""

    operator: str
    name: str
    """Of its output."""

    error: float
    inputs: float
    """The largest error of what it reads."""


@dataclass(frozen=True)
class Departure:
    """Where one graph or engine of a stage departs from the graph for the CPU."""

    stage: str
    runner: str
    """A target, or the library of an engine."""

    torch: float = float("nan")
    """The largest error of an output against torch."""

    output: float | None = None
    """The same against the graph for the CPU."""

    compared: tuple[int, int] = (0, 0)
    """Number of layers whose output both have, and of all layers of the graph for the CPU."""

    layer: Layer | None = None
    """The first one over the bound, else the one that adds most to the error of its inputs."""

    is_over: bool = False
    reason: str = ""
    """Why there is nothing to compare, if so."""


class Debugger:
    """Compares the graphs of one stage after the other. Holds the TensorRT that runs engines, if any.

    ``libraries``: the libraries to look for, in this order. Raise ModuleNotFoundError if Polygraphy is
    not installed.
    """

    def __init__(self, precision: Precision, libraries: Iterable[Library] = LIBRARIES) -> None:
        self._precision = precision
        self.bound = BOUNDS[precision]
        self._library: Library | None = None
        self._gpu: Gpu | None = None
        for library in libraries:  # before the first import of Polygraphy, which keeps to one
            with suppress(ImportError, OSError, EngineError):
                select_library(library)
                self._library = library
                break
        import polygraphy  # noqa: F401

        self.engines = "no TensorRT can be loaded"
        if self._library:
            self.engines = self._find_gpu()

    def departures(
        self, stage: str, graphs: Mapping[Target, Path], case: GoldenCase
    ) -> Iterator[Departure]:
        """Yield a result for each graph of a stage, the one for the CPU first, and for its engine."""
        try:
            reference = load_marked(graphs[_REFERENCE], _shapes(case))
            exact = _run(_runner(reference, graphs[_REFERENCE]), case)
        except EngineError as error:
            yield Departure(stage, _REFERENCE, reason=str(error))
            return
        yield Departure(stage, _REFERENCE, _against_torch(exact, case))
        layers = _layers(reference)
        runners: dict[str, Any] = {
            target: lambda path=path: _runner(load_marked(path, _shapes(case)), path)
            for target, path in graphs.items()
            if target != _REFERENCE
        }
        if self._gpu:
            runners[str(self._library)] = lambda: self._engine(graphs, case)
        for name, make in runners.items():
            try:
                found = _run(make(), case)
            except EngineError as error:
                yield Departure(stage, name, reason=str(error))
                continue
            errors = _compare(exact, found)
            layer, is_over = _first_layer(layers, errors, self.bound)
            compared = sum(name in errors for _, name in layers), len(layers)
            output = _largest(relative_error(found[n], exact[n]) for n in case.outputs)
            torch = _against_torch(found, case)
            yield Departure(stage, name, torch, output, compared, layer, is_over)

    def _find_gpu(self) -> str:
        """Look for a GPU that the library serves; return why there is none, or nothing."""
        from ..runtime.engines.tensorrt.build import check_machine

        try:
            self._gpu = check_machine(BuildOptions(), 0)
        except EngineError as error:
            return str(error)
        return ""

    def _engine(self, graphs: Mapping[Target, Path], case: GoldenCase) -> Any:
        """Return a runner of an engine that is built for the case alone. Not run on a GPU yet."""
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        from ..runtime.engines.tensorrt.build import BuildRequest, build_plan, workspace
        from ..runtime.engines.tensorrt.plan import trt

        assert self._library
        assert self._gpu
        target, options = target_of(self._library, trt.__version__), BuildOptions()
        if target not in graphs:
            raise EngineError(f"the {self._library} of this machine needs a graph for {target}")
        profile = {name: (array.shape,) * 3 for name, array in case.inputs.items()}
        memory = workspace(options, self._gpu)
        request = BuildRequest(graphs[target], profile, options, self._precision, memory)
        plan, _ = build_plan(request, BuildProgress(lambda _share, _left: None))
        return TrtRunner(EngineFromBytes(bytes(plan)), name=self._library)


def check_targets(targets: Sequence[Target]) -> None:
    """Raise ValueError if the graph that others are compared with is not among the targets."""
    if _REFERENCE not in targets:
        raise ValueError(
            f"--debug compares with the graph for {_REFERENCE}, got graphs for {', '.join(targets)}; "
            f"export with --target {_REFERENCE}"
        )


def stages_of(bundle: Bundle) -> Iterator[tuple[str, dict[Target, Path], GoldenCase]]:
    """Yield what ``departures`` takes for each stage of a bundle. Raise BundleError."""
    for stage, record in bundle.manifest.stages.items():
        cases = bundle.golden(stage)
        if not cases:
            raise BundleError(
                f"bundle {bundle.folder} has no golden vectors of the {stage}; "
                "export the checkpoint again"
            )
        yield stage, {target: bundle.path(stage, target) for target in record.graphs}, cases[0]


def table(found: Iterable[Departure], debugger: Debugger) -> str:
    """Return a row for each result; errors relative to the graph for the CPU, and the last to torch."""
    where = f"first layer over {debugger.bound:.0e}, or the one that adds most"
    numbers = "".join(f"{name:>9}" for name in ("error", "inputs", "output", "torch"))
    head = f"{'stage':<10}{'target':<14}{'layers':>10}  {where:<50}{numbers}"
    note = f"no engine is compared: {debugger.engines}" if debugger.engines else None
    return "\n".join([head, *map(_line, found), *([note] if note else [])])


def _line(found: Departure) -> str:
    start = f"{found.stage:<10}{found.runner:<14}"
    if found.reason:
        return f"{start}{'':>10}  {found.reason}"
    layer = found.layer
    if layer is None or found.output is None:
        return f"{start}{'':>10}  {'the others are compared with this one':<50}{'':27}{found.torch:9.1e}"
    where = f"{'OVER' if found.is_over else 'most'}: {layer.operator} {layer.name}"
    numbers = (layer.error, layer.inputs, found.output, found.torch)
    cells = "".join(f"{number:9.1e}" for number in numbers)
    return f"{start}{'{}/{}'.format(*found.compared):>10}  {where:<50}{cells}"


def _shapes(case: GoldenCase) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in case.inputs.items()}


def _runner(model: ir.Model, path: Path) -> Any:
    from polygraphy.backend.onnxrt import OnnxrtRunner

    graph = ir.to_proto(model).SerializeToString()  # the weights stay in their file
    return OnnxrtRunner(lambda: open_model(graph, path), name=path.name)


def _run(runner: Any, case: GoldenCase) -> dict[str, Array]:
    """Return every output of a run by name."""
    from polygraphy.comparator import Comparator
    from polygraphy.logger import G_LOGGER

    with running(runner.name), G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):
        ((_, (outputs,)),) = Comparator.run([runner], data_loader=[dict(case.inputs)])
        return dict(outputs.items())


def _compare(exact: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, float]:
    """Return the relative error of every tensor that both runs have, by name.

    Polygraphy's ``compare_accuracy`` would also compute statistics of every tensor, in twice the time.
    """
    return {
        name: relative_error(found[name], array)
        for name, array in exact.items()
        if name in found and found[name].shape == array.shape
    }


def _layers(marked: ir.Model) -> list[tuple[ir.Node, str]]:
    """Return the nodes that compute an output and its name, in topological order.

    Those that only arrange numbers are left out: a pass may scale what they arrange.
    """
    return [
        (node, str(value.name))
        for node in marked.graph
        for value in node.outputs
        if value.is_graph_output() and node.op_type not in LAYOUT
    ]


def _first_layer(
    layers: Sequence[tuple[ir.Node, str]], errors: Mapping[str, float], bound: float
) -> tuple[Layer | None, bool]:
    """Return the first layer over the bound and True, or the one that adds most and False."""
    worst: Layer | None = None
    for node, name in layers:
        if name not in errors:
            continue
        layer = Layer(node.op_type, name, errors[name], _error_of_inputs(node, errors))
        if not layer.error <= bound:  # also if it is NaN
            return layer, True
        if worst is None or layer.error - layer.inputs > worst.error - worst.inputs:
            worst = layer
    return worst, False


def _error_of_inputs(node: ir.Node, errors: Mapping[str, float]) -> float:
    """Return the largest error of the nearest compared tensors that a node depends on."""
    waiting, seen, found = list(node.inputs), set[ir.Value](), [0.0]
    while waiting:
        value = waiting.pop()
        if value is None or value in seen or value.dtype not in FLOATS:
            continue
        seen.add(value)
        producer = value.producer()
        name = str(value.name)
        if name in errors and producer and producer.op_type not in LAYOUT:
            found.append(errors[name])
        elif producer:
            waiting.extend(producer.inputs)
    return max(found)


def _against_torch(found: Mapping[str, Array], case: GoldenCase) -> float:
    return _largest(relative_error(found[name], exact) for name, exact in case.outputs.items())


def _largest(errors: Iterable[float]) -> float:
    return float(np.max(list(errors)))  # NaN if one is
