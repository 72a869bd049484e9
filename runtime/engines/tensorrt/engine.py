"""The TensorRT engine of a network: built on the first run, verified, cached, loaded, run.

Everything up to the engine's bytes is tested with TensorRT-RTX's compiler, which needs no GPU. What
follows is tested against a fake and has not been executed on a GPU yet.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...bundle import Bundle, check_golden
from ...bundle.golden import BOUNDS, DeviationError
from ...tensors import Array
from ...terminal import ShowShare, share_line
from ...terminal import log as log_to_terminal
from ..engine import from_host
from . import cache
from .build import BuildRequest, build_plan, check_machine, inspect, key_on, workspace
from .context import ExecutionContext, Memory, Scratch
from .diagnostics import LEAST_FP16_SHARE
from .library import selected_library
from .options import BuildOptions
from .plan import PlanError, open_plan, trt
from .profiles import (
    ENGINES,
    Profile,
    Shape,
    contains,
    engine_name,
    engine_pattern,
    profile_for,
)
from .progress import BuildProgress
from .support import target_of

TIMINGS = "timing.cache"
"""The file in it that holds the builder's measurements."""


_TASTE = ("level", "workspace")
"""Settings that make an engine faster or smaller; where nothing is built, any value will do."""


class TrtEngine:
    """A network of a bundle as a TensorRT engine, built for the sizes it runs with.

    The first run with a new size takes an engine that was built ahead of time, or builds one, which
    takes minutes, and checks it against the bundle's golden vectors. Engines are stored in the
    bundle's ``engines`` folder. One size is loaded at a time. ``show_for`` returns the progress
    display of a build with the given label; ``log`` is called with one message per build. Raises
    EngineError.
    """

    def __init__(
        self,
        bundle: Bundle,
        stage: str,
        memory: Memory,
        scratch: Scratch,
        options: BuildOptions | None = None,
        show_for: Callable[[str], ShowShare] = share_line,
        log: Callable[[str], None] = log_to_terminal,
    ) -> None:
        self._bundle, self._stage, self._memory, self._scratch = bundle, stage, memory, scratch
        self._options, self._show_for, self._log = options or BuildOptions(), show_for, log
        self._record = bundle.manifest.stages[stage]
        self._onnx = bundle.path(stage, target_of(selected_library(), trt.__version__))
        self.inputs, self.outputs = self._record.signature
        self._gpu = check_machine(self._options, memory.index)
        self._loaded: ExecutionContext | None = None

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on arrays of the GPU, see Engine; a new size may build an engine first."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        shapes = {name: tuple(inputs[name].shape) for name in self.inputs}
        loaded = self._loaded
        if loaded is None or not contains(loaded.profile, shapes):
            self._loaded = loaded = None  # releases its memory
            self._memory.free_blocks()
            self._loaded = loaded = self._open(shapes)
        with self._memory.active():
            return loaded.run(inputs, shapes)

    def has_engine(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether an engine that takes these shapes exists and fits this machine."""
        return self._find(shapes) is not None

    def _open(self, shapes: Mapping[str, Shape]) -> ExecutionContext:
        plan, profile, is_new = self._find(shapes) or self._build(shapes)
        try:
            engine = open_plan(plan, self._onnx, self._options)
        except PlanError as error:
            if is_new or not self._options.rebuild:
                raise
            self._log(f"{plan.name} cannot be opened and is built again: {error}")
            cache.discard(plan)
            plan, profile, is_new = self._build(shapes)
            engine = open_plan(plan, self._onnx, self._options)
        if is_new:
            self._note(plan, inspect(engine, profile))
        loaded = ExecutionContext(
            engine, profile, self.inputs, self.outputs, self._memory, self._scratch, plan
        )
        if self._options.is_verified and not cache.is_verified(plan, self._gpu.name):
            self._verify(plan, loaded)
        return loaded

    def _find(self, shapes: Mapping[str, Shape]) -> tuple[Path, Profile, bool] | None:
        """Return an engine that exists and fits, that of the wanted profile first."""
        wanted = profile_for(self._bundle.manifest, self._record, shapes, self._options)
        key = key_on(self._gpu, self._bundle, self._stage, wanted, self._options)
        pattern = engine_pattern(self._stage, selected_library())
        free = () if self._options.rebuild else _TASTE
        found = cache.find_plan(self._bundle.folder / ENGINES, pattern, key, shapes, free)
        return (*found, False) if found else None

    def _build(self, shapes: Mapping[str, Shape]) -> tuple[Path, Profile, bool]:
        """Return an engine of the wanted profile, built now unless another process has built it."""
        profile = profile_for(self._bundle.manifest, self._record, shapes, self._options)
        key = key_on(self._gpu, self._bundle, self._stage, profile, self._options)
        library = selected_library()
        folder = self._bundle.folder / ENGINES
        plan = folder / engine_name(self._stage, library, profile)
        request = BuildRequest(
            self._onnx,
            profile,
            self._options,
            self._bundle.manifest.precision,
            workspace(self._options, self._gpu),
            timings=folder / TIMINGS if library == "tensorrt" else None,
        )
        progress = BuildProgress(self._show_for(f"building {self._stage}"))

        def build() -> tuple[Any, Mapping[str, Any]]:
            self._memory.free_blocks()
            data, notes = build_plan(request, progress, self._memory.active)
            return data, {"driver": self._gpu.driver, **notes}

        is_new = cache.get_or_build(plan, key, build, rebuild=self._options.rebuild, log=self._log)
        return plan, profile, is_new

    def _note(self, plan: Path, notes: Mapping[str, Any]) -> None:
        """Record what the inspector found; warn of a float16 engine with few float16 layers."""
        cache.add_notes(plan, notes)
        share = notes["fp16_share"]
        is_fp16 = self._bundle.manifest.precision == "fp16"
        if is_fp16 and share is not None and share < LEAST_FP16_SHARE:
            self._log(f"only {share:.0%} of the layers of {plan.name} show float16 tensors")

    def _verify(self, plan: Path, loaded: ExecutionContext) -> None:
        """Check a loaded engine against the golden vectors; remove it if it computes something else."""
        memory, stage = self._memory, self._stage

        def run(**inputs: Array) -> dict[str, Array]:
            return loaded.run(inputs, _shapes(inputs))

        cases = [
            case
            for case in self._bundle.golden(stage)
            if contains(loaded.profile, _shapes(case.inputs))
        ]
        if not cases:
            self._log(f"{plan.name} is not verified: no golden vectors have its sizes")
            return
        precision = self._bundle.manifest.precision
        bound = BOUNDS["fp16" if self._options.allows_tf32(precision) else precision]
        try:
            errors = check_golden(stage, from_host(memory, run), cases, bound)
        except DeviationError:
            cache.discard(plan)
            raise
        cache.mark_verified(plan, self._gpu.name, errors)


def _shapes(arrays: Mapping[str, Array]) -> dict[str, Shape]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
