"""``--device openvino``, ``openvino:CPU``, ``openvino:GPU`` and ``openvino:NPU``: NumPy arrays.

GPU and NPU are written against the published API and not run yet.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...bundle import Bundle, Target
from ...errors import EngineError
from ..device import Host
from ..engine import Engine
from ..precision import PrecisionOptions, summary
from .bf16 import BOUNDS, bf16_errors
from .blobs import BlobCache
from .buffers import Buffers
from .compiled_model import OvEngine
from .core import check_bf16, check_plugin, default_precision
from .graph import Graph


class OpenVino(Host):
    """One of OpenVINO's devices. ``log`` is told the precision that a bundle gets, and why.

    Raise EngineError if OpenVINO is too old, finds no such device, or the device has no such precision.
    """

    target: Target = "openvino"

    def __init__(self, name: str, precision: PrecisionOptions, log: Callable[[str], None]) -> None:
        self.name = name
        self._plugin = name.partition(":")[2] or "CPU"
        check_plugin(self._plugin)
        self._asked, self._log, self._blobs = precision, log, BlobCache(log)
        self._buffers = Buffers()
        self._taken: dict[Path, dict[str, str]] = {}
        if "bf16" in (precision.default, *precision.stages.values()):
            self._check_bf16()

    def precisions(self, bundle: Bundle) -> dict[str, str]:
        """Return the precision of each stage; it is chosen, and told, once."""
        if bundle.folder not in self._taken:
            stages = bundle.manifest.stages
            self._asked.check(stages)
            asked = {stage: str(self._asked.of(stage)) for stage in stages}
            free = [stage for stage, choice in asked.items() if choice == "auto"]
            chosen, why = self._choose(bundle, free) if free else ({}, "as asked")
            self._taken[bundle.folder] = taken = asked | chosen
            self._log(f"precision {summary(taken)}: {why}")
        return self._taken[bundle.folder]

    def open(self, bundle: Bundle, stage: str) -> Engine:
        """Open a stage in its precision; nothing is read before it runs."""
        return self._engine(bundle, stage, self.precisions(bundle)[stage])

    def open_file(self, path: Path) -> Engine:
        """Open an ``.onnx`` file. Without golden vectors, auto is float32 on a processor."""
        precision = str(self._asked.default)
        if precision == "auto" and self._plugin == "CPU":
            precision = "fp32"
        return OvEngine(Graph(path), None, self._plugin, precision, self._blobs, self._buffers)

    def _choose(self, bundle: Bundle, stages: Sequence[str]) -> tuple[dict[str, str], str]:
        """Return the precision of stages that have a choice, and why, in one line."""
        if self._plugin != "CPU":
            default = default_precision(self._plugin)
            return dict.fromkeys(stages, default), f"the {self._plugin}'s own"
        try:
            check_bf16()
        except EngineError as error:
            return dict.fromkeys(stages, "fp32"), str(error)
        errors = bf16_errors(
            bundle, self.target, stages, lambda s: self._engine(bundle, s, "bf16").run, self._log
        )
        over = [f"{s} {e:.1e} of {BOUNDS[s]:.1e}" for s, e in errors.items() if not e <= BOUNDS[s]]
        taken = {s: "bf16" if e <= BOUNDS[s] else "fp32" for s, e in errors.items()}
        if over:
            return taken, f"bfloat16's error against torch is over its bound: {', '.join(over)}"
        return taken, "this processor computes in bfloat16, and every stage is near enough to torch"

    def _engine(self, bundle: Bundle, stage: str, precision: str) -> OvEngine:
        record = bundle.manifest.stages[stage]
        graph = Graph(
            bundle.path(stage, self.target),
            bundle.weights(stage),
            bundle.hashes(stage, self.target),
        )
        return OvEngine(
            graph, record.signature, self._plugin, precision, self._blobs, self._buffers
        )

    def _check_bf16(self) -> None:
        """Raise EngineError if the device does not compute in bfloat16."""
        if self._plugin != "CPU":
            raise EngineError(
                f"precision bf16 is for processors, and {self.name} takes auto and fp32"
            )
        try:
            check_bf16()
        except EngineError as error:
            raise EngineError(
                f"precision bf16 cannot be had: {error}; give auto or fp32"
            ) from error
