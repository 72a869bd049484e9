"""TensorRT plans, which are serialized engines: opening them; TensorRT's log.

``trt`` is the library that ``select_library`` chose.
"""

import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polygraphy.backend.trt import util as polygraphy_trt
from polygraphy.mod.trt_importer import lazy_import_trt

from ...errors import EngineError
from .diagnostics import is_outdated, meaning
from .options import BuildOptions

trt: Any = lazy_import_trt()

_MOST_ERRORS = 100
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_CURABLE = ("MALFORMED_ENGINE", "UNSUPPORTED_CC", "VERSION_MISMATCH")


class PlanError(EngineError):
    """A plan cannot be opened, and one that is built again may be."""


class Log(trt.ILogger):  # type: ignore[misc]  # untyped
    """Collects TensorRT's error messages and the builder's size of activations; prints nothing.

    TensorRT reports to the first log of a process, whichever is given later: use ``LOG``.
    """

    _ERROR, _INFO = int(trt.ILogger.ERROR), int(trt.ILogger.INFO)

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []
        self.activations: int | None = None

    def clear(self) -> None:
        """Forget the messages of the last operation."""
        self.errors, self.activations = [], None

    def log(self, severity: Any, msg: str) -> None:
        """Keep what is needed; nearly all of ten thousands of messages are dropped at once."""
        level = int(severity)
        if level <= self._ERROR and len(self.errors) < _MOST_ERRORS:
            self.errors.append(msg)
        elif level == self._INFO and (found := _ACTIVATIONS.match(msg)):
            self.activations = int(found[1])


LOG = Log()
"""The log of this process; Polygraphy's loaders report to it as well."""

polygraphy_trt.TRT_LOGGER = LOG


def open_plan(plan: Path, onnx: Path, options: BuildOptions) -> Any:
    """Open a plan from a memory map, so that no copy of it is held. Raise PlanError, EngineError."""
    try:
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return deserialize(data, onnx, options)
    except (OSError, ValueError) as error:
        raise PlanError(f"{plan} cannot be read: {error}") from error


def deserialize(data: Any, onnx: Path, options: BuildOptions) -> Any:
    """Return the engine of a plan; a stripped plan gets its weights from the bundle."""
    LOG.clear()
    runtime = create(lambda: trt.Runtime(LOG), "the runtime does not start")
    if options.is_version_compatible:
        runtime.engine_host_code_allowed = True
    _check_validity(runtime, data, onnx)
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        kind = PlanError if is_outdated(LOG.errors) else EngineError
        raise kind(f"TensorRT cannot open the engine of {onnx.name}: {meaning(LOG.errors)}")
    if options.is_stripped:
        refitter = trt.Refitter(engine, LOG)
        weights = trt.OnnxParserRefitter(refitter, LOG)
        if not (weights.refit_from_file(str(onnx)) and refitter.refit_cuda_engine()):
            raise EngineError(
                f"the weights of {onnx} do not match the engine: {meaning(LOG.errors)}"
            )
    return engine


def create(factory: Callable[[], Any], failure: str) -> Any:
    """Call a factory; raise EngineError if it returns nothing, which the bindings turn into TypeError."""
    try:
        return factory()
    except (TypeError, RuntimeError) as error:
        raise EngineError(f"TensorRT: {failure}: {meaning(LOG.errors)}") from error


def _check_validity(runtime: Any, data: Any, onnx: Path) -> None:
    """Ask the library whether a plan runs on this GPU, where it can tell (TensorRT-RTX)."""
    ask = getattr(runtime, "get_engine_validity", None)
    if ask is None:
        return
    validity, bits = ask(data)
    if validity != trt.EngineValidity.INVALID:
        return
    diagnostics = trt.EngineInvalidityDiagnostics.__members__
    reasons = [name for name, value in diagnostics.items() if int(bits) & int(value)]
    kind = PlanError if set(reasons) & set(_CURABLE) else EngineError
    said = ", ".join(reasons) or meaning(LOG.errors)
    raise kind(f"TensorRT-RTX cannot run the engine of {onnx.name} on this GPU: {said}")
