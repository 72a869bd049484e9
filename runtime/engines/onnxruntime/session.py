"""ONNX Runtime: the only file that imports it."""

import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read by the import; "0" turns it on again
import onnxruntime as ort

from ...errors import EngineError
from ...tensors import Array, TensorSpec
from ...terminal import captured_stderr

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
}
_ERRORS_ONLY, _NOTHING = 3, 4  # what a session prints by itself
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_REASON = 300  # characters of a provider's own lines
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
"""Operators that ONNX Runtime puts on the CPU on purpose: a handful of integers, on their way from
one tensor's shape to another's. A graph with free sizes has hundreds of them."""


class OrtEngine:
    """An ``.onnx`` file in an ONNX Runtime session on the CPU.

    Memory that a run needed is given back after it; otherwise every network of a pipeline would
    hold what it once took for its largest image.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._session = _open(path, CPU, {})
        with running(path.name):
            self.inputs, self.outputs = signature(self._session)
        self._options = ort.RunOptions()
        self._options.log_severity_level = _NOTHING  # what fails is raised
        self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(self, **inputs: Array) -> dict[str, Array]:
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        with running(self._name):
            arrays = self._session.run(None, inputs, self._options)
        return {name: np.asarray(a) for name, a in zip(self.outputs, arrays, strict=True)}


def providers() -> list[str]:
    """The execution providers that this ONNX Runtime has."""
    return list(ort.get_available_providers())


def cuda_options(stream: int, device: int) -> dict[str, str]:
    """The CUDA provider's options: everything on one stream, and float32 means float32.

    ``kSameAsRequested``: the arena grows by what is needed, not to the next power of two.
    ``HEURISTIC``: cuDNN picks a convolution by its table instead of timing all of them at the first
    image of every size. ``use_tf32`` off: on, a float32 network has 10 bits of mantissa in its
    products; half precision is unaffected. ``prefer_nhwc`` is left off. None of this has been
    measured on a GPU yet.
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

    Raises EngineError where this ONNX Runtime has none, has one for another major version of CUDA,
    or lacks a library.
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
            f"ONNX Runtime finds no {', '.join(missing)}; pip install 'dossr[cuda]' brings them"
        )


def left_nodes(session: ort.InferenceSession, provider: str) -> list[str]:
    """The nodes that went to another provider although they are no shape arithmetic.

    As "Conv /up/conv" or, of a node without a name, "Conv".
    """
    return [
        f"{node.op_type} {node.name}".strip()
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.op_type not in _SHAPE_ARITHMETIC
    ]


def open_whole(path: Path, provider: str, options: Mapping[str, str]) -> ort.InferenceSession:
    """A session that runs a network on one provider as a whole. Raises EngineError otherwise.

    ONNX Runtime falls back to the CPU in silence, node by node and as a whole. Its own option
    against it, ``session.disable_cpu_ep_fallback``, counts shape arithmetic too and refuses every
    graph with free sizes. So the session records which provider each node went to. What this list
    of operators lets pass is caught by CUDA graphs: ONNX Runtime refuses them where it would have
    to copy between host and device.
    """
    try:
        with captured_stderr() as said:  # where a provider does not start, only its lines say why
            session = _open(path, provider, options, _ERRORS_ONLY)
    except EngineError as error:
        if options.get("enable_cuda_graph") != "1":
            raise
        session = _open(path, provider, {**options, "enable_cuda_graph": "0"})
        _refuse(path, provider, left_nodes(session, provider))
        raise EngineError(f"{path.name} cannot be recorded as a CUDA graph: {error}") from error
    if provider not in session.get_providers():
        reason = " ".join(_COLOR.sub("", said.text).split())[:_REASON] or "it does not say why"
        raise EngineError(f"ONNX Runtime {ort.__version__} did not start {provider}: {reason}")
    _refuse(path, provider, left_nodes(session, provider))
    return session


def _refuse(path: Path, provider: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise EngineError(
            f"{path.name} does not run on {provider} as a whole; ONNX Runtime {ort.__version__} "
            f"leaves to the CPU: {', '.join(names[:3])}{more}"
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
    except Exception as error:  # of a damaged file nearly anything, also UnicodeDecodeError
        raise EngineError(f"ONNX Runtime cannot open {path}: {error}") from error


def run_options(graph: int) -> ort.RunOptions:
    """Options of a run that records or replays a CUDA graph of that number, and does not wait."""
    options = ort.RunOptions()
    options.log_severity_level = _NOTHING
    options.add_run_config_entry("gpu_graph_id", str(graph))
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return options


def signature(session: ort.InferenceSession) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """What goes in and what comes out, in the order of the file."""
    inputs = {node.name: _spec(node) for node in session.get_inputs()}
    return inputs, {node.name: _spec(node) for node in session.get_outputs()}


@contextmanager
def running(name: str) -> Iterator[None]:
    """A block in which a network's failure becomes an EngineError of one line."""
    try:
        yield
    except Exception as error:  # RuntimeError of bound memory, UnicodeDecodeError of damaged names
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            raise EngineError(
                f"{name} has not enough memory for this size; a smaller tile takes less"
            ) from error
        raise EngineError(f"{name} failed: {error}") from error


def _spec(node: ort.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape))
