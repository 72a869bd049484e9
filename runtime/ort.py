"""ONNX Runtime: the only file that imports it."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from .engine import Array, EngineError, TensorSpec

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
}
_ERRORS_ONLY = 3
_FAILURES = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class OrtEngine:
    """An ``.onnx`` file in an ONNX Runtime session on the CPU."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self._name = path.name
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except _FAILURES as error:
            raise EngineError(f"ONNX Runtime cannot open {path}: {_first_line(error)}") from error
        self.inputs = {node.name: _spec(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _spec(node) for node in self._session.get_outputs()}

    def run(self, **inputs: Array) -> dict[str, Array]:
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        try:
            arrays = self._session.run(None, inputs)
        except (*_FAILURES, MemoryError) as error:
            raise EngineError(f"{self._name} failed: {_first_line(error)}") from error
        return {name: np.asarray(a) for name, a in zip(self.outputs, arrays, strict=True)}


def _spec(node: ort.NodeArg) -> TensorSpec:
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), tuple(node.shape))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
