"""ONNX Runtime sessions, on the CPU and whole on another provider."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; "0" enables it
import onnxruntime as ort

from ...errors import EngineError, OutOfMemoryError, lacks_memory
from ...tensors import Array, TensorSpec
from ...terminal import captured_stderr, interruptible

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
}
_ERRORS_ONLY, _NOTHING = 3, 4  # log severities
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_REASON = 300  # characters of a provider's message

Signature = tuple[dict[str, TensorSpec], dict[str, TensorSpec]]
"""Inputs and outputs by name, in the order of the file."""


@dataclass(frozen=True)
class Provider:
    """An execution provider of ONNX Runtime and its options."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)


CPU = Provider("CPUExecutionProvider")
_CAPTURE = "enable_cuda_graph"
_WEIGHTS = "session.model_external_initializers_file_folder_path"

_SHAPE_ARITHMETIC = frozenset((
    "Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
    "Gather", "Identity", "Max", "Min", "Mod", "Mul", "Neg", "Range", "ReduceProd", "Reshape", "Shape",
    "Size", "Slice", "Split", "Squeeze", "Sub", "Unsqueeze", "Where",
))  # fmt: skip
"""Operators that ONNX Runtime assigns to the CPU on purpose, because they compute a few integers of a
shape. A graph with variable sizes has hundreds of them."""


class OrtEngine:
    """An ``.onnx`` file in an ONNX Runtime session on the CPU.

    The memory of a run is released after it. Otherwise every network of a pipeline would hold the
    memory of its largest image. ``threads``: that compute; None: one for each core.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._name = path.name
        self._session = _open(path, CPU, threads=threads)
        with running(path.name):
            self.inputs, self.outputs = signature(self._session)
        self._options = ort.RunOptions()
        self._options.log_severity_level = _NOTHING  # failures are raised
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on NumPy arrays. Ctrl-C ends it after the operator in progress."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        self._options.terminate = False
        with running(self._name):
            arrays = interruptible(
                lambda: self._session.run(None, inputs, self._options), self._terminate
            )
        return {name: np.asarray(a) for name, a in zip(self.outputs, arrays, strict=True)}

    def _terminate(self) -> None:
        self._options.terminate = True


def providers() -> list[str]:
    """Return the execution providers of this ONNX Runtime."""
    return list(ort.get_available_providers())


def left_nodes(session: ort.InferenceSession, provider: Provider) -> list[str]:
    """Return the nodes on another provider, except shape arithmetic.

    Each is named "Conv /up/conv", or "Conv" if the node has no name.
    """
    return [
        f"{node.op_type} {node.name}".strip()
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider.name
        for node in part.get_nodes()
        if node.op_type not in _SHAPE_ARITHMETIC
    ]


def open_whole(path: Path, provider: Provider, sizes: Mapping[str, int]) -> ort.InferenceSession:
    """Open a session that runs the whole network on one provider; raise EngineError otherwise.

    ``sizes``: those variable axes that are fixed, by name.

    ONNX Runtime falls back to the CPU silently, for single nodes or the whole network. Its option
    ``session.disable_cpu_ep_fallback`` includes shape arithmetic and rejects every graph with
    variable sizes. The session therefore records the provider of each node. CUDA graphs catch the
    rest: ONNX Runtime rejects them if it would have to copy between host and device.
    """
    try:  # the log is the only reason given for a provider that does not start
        with captured_stderr() as stderr:
            session = _open(path, provider, sizes, _ERRORS_ONLY)
    except EngineError as error:
        if provider.options.get(_CAPTURE) != "1" or isinstance(error, OutOfMemoryError):
            raise
        session = _open(path, _without_capture(provider), sizes)
        _check_nodes(path, provider, session)
        raise EngineError(f"{path.name} cannot be recorded as a CUDA graph: {error}") from error
    if provider.name not in session.get_providers():
        reason = " ".join(_COLOR.sub("", stderr.text).split())[:_REASON] or "no reason given"
        raise EngineError(f"ONNX Runtime {ort.__version__} did not start {provider.name}: {reason}")
    _check_nodes(path, provider, session)
    return session


def open_model(graph: bytes, path: Path) -> ort.InferenceSession:
    """Open a variant of an ``.onnx`` file on the CPU, which reads the file's weights.

    ``graph``: the serialized model; the location of its weights is relative to the file ``path``.
    """
    return _open(path, CPU, graph=graph)


def read_signature(path: Path, provider: Provider) -> Signature:
    """Return the inputs and outputs of an ``.onnx`` file."""
    return signature(_open(path, _without_capture(provider)))


def signature(session: ort.InferenceSession) -> Signature:
    """Return the inputs and outputs of a session."""
    inputs = {node.name: _spec(node) for node in session.get_inputs()}
    return inputs, {node.name: _spec(node) for node in session.get_outputs()}


def _without_capture(provider: Provider) -> Provider:
    return replace(provider, options={**provider.options, _CAPTURE: "0"})


def _check_nodes(path: Path, provider: Provider, session: ort.InferenceSession) -> None:
    names = left_nodes(session, provider)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise EngineError(
            f"{path.name} does not run on {provider.name} as a whole; ONNX Runtime {ort.__version__} "
            f"assigns to the CPU: {', '.join(names[:3])}{more}"
        )


def _open(
    path: Path,
    provider: Provider,
    sizes: Mapping[str, int] | None = None,
    severity: int = _NOTHING,
    graph: bytes | None = None,
    threads: int | None = None,
) -> ort.InferenceSession:
    ort.set_default_logger_severity(
        severity
    )  # of what belongs to no session: an allocator's overflow
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads or 0
    settings.log_severity_level = severity
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for name, size in (sizes or {}).items():
        settings.add_free_dimension_override_by_name(name, size)
    if graph is not None:
        settings.add_session_config_entry(_WEIGHTS, str(path.parent.absolute()))
    try:
        return ort.InferenceSession(
            graph or path,
            settings,
            providers=[(provider.name, dict(provider.options))],
            enable_fallback=0,
        )
    except (
        Exception
    ) as error:  # a damaged file may raise nearly anything, such as UnicodeDecodeError
        if lacks_memory(error):
            # smaller tiles need a smaller session only where it is opened for their size
            kind = EngineError if provider == CPU else OutOfMemoryError
            raise kind(
                f"ONNX Runtime cannot open {path} in the free memory; hold one network at a time "
                f"(--low-memory, low_memory=True), or free memory: {error}"
            ) from error
        raise EngineError(f"ONNX Runtime cannot open {path}: {error}") from error


def run_options(graph: int) -> ort.RunOptions:
    """Return options of a run that records or replays a CUDA graph and does not wait."""
    options = ort.RunOptions()
    options.log_severity_level = _NOTHING
    options.add_run_config_entry("gpu_graph_id", str(graph))
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


@contextmanager
def running(name: str) -> Iterator[None]:
    """Convert a network's failure in the block to an EngineError of one line."""
    try:
        yield
    except Exception as error:  # such as RuntimeError, or UnicodeDecodeError for a damaged name
        if lacks_memory(error):
            raise OutOfMemoryError(
                f"{name} ran out of memory for this size; use smaller tiles"
            ) from error
        raise EngineError(f"{name} failed: {error}") from error


def _spec(node: ort.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape))
