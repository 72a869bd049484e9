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
from .blobs import BlobCache
from .buffers import Buffers
from .compiled_model import OvEngine
from .core import (
    check_bf16,
    check_plugin,
    default_precision,
    device_name,
    limit_threads,
    preferred_precision,
    processor,
)
from .golden_errors import BOUNDS, golden_errors, over_bound
from .graph import Graph


class OpenVino(Host):
    """One of OpenVINO's devices. ``log`` is told the precision that a bundle gets, and why.

    ``threads``: of a processor's networks, for all pipelines of this process; None: one for each core.
    Raise EngineError if OpenVINO is too old, finds no such device, or the device has no such precision.
    """

    target: Target = "openvino"

    def __init__(
        self,
        name: str,
        precision: PrecisionOptions,
        log: Callable[[str], None],
        threads: int | None = None,
    ) -> None:
        self.name = name
        self._plugin = name.partition(":")[2] or "CPU"
        check_plugin(self._plugin)
        limit_threads(threads)
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
            integers = self._integers(
                bundle, [s for s, choice in asked.items() if choice == "int8"]
            )
            free = [
                s
                for s in stages
                if asked[s] == "auto" or (asked[s] == "int8" and s not in integers)
            ]
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
        if self._plugin == "CPU":
            try:
                check_bf16()
            except EngineError as error:
                return dict.fromkeys(stages, "fp32"), str(error)
        lower = "bf16" if self._plugin == "CPU" else default_precision(self._plugin)
        if lower == "fp32":
            return dict.fromkeys(stages, lower), f"the {self._plugin}'s own"
        errors = self._errors(bundle, stages, lower)
        taken = {s: lower if e <= BOUNDS[s] else "fp32" for s, e in errors.items()}
        if over := over_bound(errors):
            return taken, f"{lower}'s error against torch is over its bound: {over}"
        return taken, f"{self._plugin} computes in {lower}, and every stage is near enough to torch"

    def _integers(self, bundle: Bundle, stages: Sequence[str]) -> list[str]:
        """Return those of the stages, of which int8 is asked, that the bundle has in int8.

        Raise EngineError if it has none, or not one that was named, or if an error is over its bound.
        """
        if not stages:
            return []
        found = [stage for stage in stages if bundle.manifest.stages[stage].int8]
        named = [s for s in stages if s in self._asked.stages and s not in found]
        if named or not found:
            raise EngineError(
                f"bundle {bundle.folder} must have an int8 network for {' and '.join(named) or 'a stage'}, and "
                f"has none; add what can be had with dossr-export {bundle.folder} --int8, or give auto"
            )
        if self._plugin != "CPU":
            raise EngineError(
                f"precision int8 is for processors, and {self.name} takes auto and fp32"
            )
        if over := over_bound(self._errors(bundle, found, "int8")):
            raise EngineError(
                f"int8's error against torch is over its bound on {processor()}: {over}; give auto"
            )
        return found

    def _errors(self, bundle: Bundle, stages: Sequence[str], precision: str) -> dict[str, float]:
        graphs = {stage: self._graph(bundle, stage, precision) for stage in stages}
        place = (self._plugin, device_name(self._plugin))
        return golden_errors(
            bundle,
            graphs,
            (precision, *place),
            lambda s: self._engine(bundle, s, precision).run,
            self._log,
        )

    def _engine(self, bundle: Bundle, stage: str, precision: str) -> OvEngine:
        signature = bundle.manifest.stages[stage].signature
        graph = self._graph(bundle, stage, precision)
        if precision == "int8":  # of the products; this is of everything between them
            precision = preferred_precision()
        return OvEngine(graph, signature, self._plugin, precision, self._blobs, self._buffers)

    def _graph(self, bundle: Bundle, stage: str, precision: str) -> Graph:
        record = bundle.manifest.stages[stage]
        path, weights = bundle.path(stage, self.target), record.weights
        if precision == "int8" and record.int8:
            path, weights = bundle.readable / record.int8.graph, record.int8.weights
        files = [path.relative_to(bundle.readable).as_posix(), *([weights] if weights else [])]
        hashes = {name: bundle.manifest.files[name].sha256 for name in files}
        return Graph(path, bundle.readable / weights if weights else None, hashes)

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
