"""TensorRT plans, which are serialized engines, and TensorRT's error log."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorrt as trt

from ...errors import EngineError
from .diagnostics import meaning
from .options import BuildOptions


class Log(trt.ILogger):  # type: ignore[misc]  # untyped
    """Collects TensorRT's error messages instead of printing them."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        """Keep errors and drop everything else."""
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(msg)


def open_plan(plan: Path, onnx: Path, options: BuildOptions, log: Log) -> Any:
    """Open a plan from a memory map, so that no copy of it is held."""
    try:
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return deserialize(data, onnx, options, log)
    except (OSError, ValueError) as error:
        raise EngineError(f"{plan} cannot be read: {error}") from error


def deserialize(data: Any, onnx: Path, options: BuildOptions, log: Log) -> Any:
    """Return the engine of a plan; a stripped plan gets its weights from the ``.onnx`` file."""
    runtime = create(lambda: trt.Runtime(log), log, "the runtime does not start")
    if options.is_version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(f"TensorRT cannot open the engine of {onnx.stem}: {meaning(log.errors)}")
    if options.is_stripped:
        refitter = trt.Refitter(engine, log)
        weights = trt.OnnxParserRefitter(refitter, log)
        if not (weights.refit_from_file(str(onnx)) and refitter.refit_cuda_engine()):
            raise EngineError(
                f"the weights of {onnx} do not match the engine: {meaning(log.errors)}"
            )
    return engine


def create(factory: Callable[[], Any], log: Log, failure: str) -> Any:
    """Call a factory; raise EngineError if it returns nothing, which the bindings turn into TypeError."""
    try:
        return factory()
    except (TypeError, RuntimeError) as error:
        raise EngineError(f"TensorRT: {failure}: {meaning(log.errors)}") from error
