"""ONNX Runtime sessions on the CPU and on CUDA. The only file that imports onnxruntime."""

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at import; "0" enables it
import onnxruntime as ort

from ...errors import EngineError
from ...tensors import Array, TensorSpec
from ...terminal import captured_stderr

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
}
_ERRORS_ONLY, _NOTHING = 3, 4  # log severities
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_REASON = 300  # characters of a provider's message
_NO_MEMORY = re.compile(
    r"allocate memory|out of memory|ALLOC_FAILED|is smaller than requested", re.IGNORECASE
)
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

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
    memory of its largest image.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._session = _open(path, CPU, {})
        with running(path.name):
            self.inputs, self.outputs = signature(self._session)
        self._options = ort.RunOptions()
        self._options.log_severity_level = _NOTHING  # failures are raised
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on NumPy arrays."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        with running(self._name):
            arrays = self._session.run(None, inputs, self._options)
        return {name: np.asarray(a) for name, a in zip(self.outputs, arrays, strict=True)}


def providers() -> list[str]:
    """Return the execution providers of this ONNX Runtime."""
    return list(ort.get_available_providers())


def cuda_options(stream: int, device: int) -> dict[str, str]:
    """Return the CUDA provider's options: one stream, true float32.

    ``kSameAsRequested`` grows the arena by the requested size instead of a power of two.
    ``HEURISTIC`` lets cuDNN select convolutions by a table instead of timing all of them for every
    image size. ``use_tf32`` is off, because TF32 products have 10 bits of mantissa; float16 is
    unaffected. None of this has been measured on a GPU yet.
    """
    return {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }


def check_cuda(major: int) -> None:
    """Load the libraries of the CUDA provider.

    Raise EngineError if this ONNX Runtime has no CUDA provider, one for another major version of
    CUDA, or lacks a library.
    """
    if CUDA not in ort.get_available_providers():
        raise EngineError(
            f"this onnxruntime {ort.__version__} has no CUDA provider; "
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'dossr[cuda]'"
        )
    built = str(ort.cuda_version)
    if built and int(built.split(".")[0]) != major:
        raise EngineError(
            f"onnxruntime-gpu {ort.__version__} is built for CUDA {built} and CuPy for CUDA {major}; "
            "install wheels of one CUDA version"
        )
    ort.set_default_logger_severity(_ERRORS_ONLY)
    printed = io.StringIO()
    with redirect_stdout(printed):
        ort.preload_dlls()
    missing = re.findall(r"^Failed to load ([^\s/\\]+): ", printed.getvalue(), re.MULTILINE)
    if missing:
        raise EngineError(
            f"ONNX Runtime cannot find {', '.join(missing)}; install: pip install 'dossr[cuda]'"
        )


def left_nodes(session: ort.InferenceSession, provider: str) -> list[str]:
    """Return the nodes on another provider, except shape arithmetic.

    Each is named "Conv /up/conv", or "Conv" if the node has no name.
    """
    return [
        f"{node.op_type} {node.name}".strip()
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.op_type not in _SHAPE_ARITHMETIC
    ]


def open_whole(path: Path, provider: str, options: Mapping[str, str]) -> ort.InferenceSession:
    """Open a session that runs the whole network on one provider; raise EngineError otherwise.

    ONNX Runtime falls back to the CPU silently, for single nodes or the whole network. Its option
    ``session.disable_cpu_ep_fallback`` includes shape arithmetic and rejects every graph with
    variable sizes. The session therefore records the provider of each node. CUDA graphs catch the
    rest: ONNX Runtime rejects them if it would have to copy between host and device.
    """
    try:
        with captured_stderr() as said:  # the only reason given for a provider that does not start
            session = _open(path, provider, options, _ERRORS_ONLY)
    except EngineError as error:
        if options.get("enable_cuda_graph") != "1":
            raise
        session = _open(path, provider, {**options, "enable_cuda_graph": "0"})
        _check_nodes(path, provider, left_nodes(session, provider))
        raise EngineError(f"{path.name} cannot be recorded as a CUDA graph: {error}") from error
    if provider not in session.get_providers():
        reason = " ".join(_COLOR.sub("", said.text).split())[:_REASON] or "no reason given"
        raise EngineError(f"ONNX Runtime {ort.__version__} did not start {provider}: {reason}")
    _check_nodes(path, provider, left_nodes(session, provider))
    return session


def _check_nodes(path: Path, provider: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise EngineError(
            f"{path.name} does not run on {provider} as a whole; ONNX Runtime {ort.__version__} "
            f"assigns to the CPU: {', '.join(names[:3])}{more}"
        )


def _open(
    path: Path, provider: str, options: Mapping[str, str], severity: int = _NOTHING
) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = severity
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        return ort.InferenceSession(
            path, settings, providers=[(provider, dict(options))], enable_fallback=0
        )
    except (
        Exception
    ) as error:  # a damaged file may raise nearly anything, such as UnicodeDecodeError
        raise EngineError(f"ONNX Runtime cannot open {path}: {error}") from error


def run_options(graph: int) -> ort.RunOptions:
    """Return options of a run that records or replays a CUDA graph and does not wait."""
    options = ort.RunOptions()
    options.log_severity_level = _NOTHING
    options.add_run_config_entry("gpu_graph_id", str(graph))
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def signature(session: ort.InferenceSession) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Return the inputs and outputs in the order of the file."""
    inputs = {node.name: _spec(node) for node in session.get_inputs()}
    return inputs, {node.name: _spec(node) for node in session.get_outputs()}


@contextmanager
def running(name: str) -> Iterator[None]:
    """Convert a network's failure in the block to an EngineError of one line."""
    try:
        yield
    except Exception as error:  # such as RuntimeError, or UnicodeDecodeError for a damaged name
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise EngineError(
                f"{name} ran out of memory for this size; use smaller tiles"
            ) from error
        raise EngineError(f"{name} failed: {error}") from error


def _spec(node: ort.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape))
