"""The TensorRT engine of a network: built on the first run, verified, cached, loaded, run.

Written for TensorRT 10.3 to 11. Every name and signature used in this folder is tested against the
published bindings of 10.3, 10.16 and 11.4, and the order of calls against a fake. None of it has
been executed on a GPU yet.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...bundle import MANIFEST, Manifest, StageRecord, read_manifest
from ...errors import EngineError
from ...tensors import Array
from ...terminal import ShowShare, share_line
from ...terminal import log as log_to_terminal
from .build import build_plan, check_fp16, check_machine, engine_key, inspect
from .cache import get_or_build
from .context import ExecutionContext, Memory, Scratch
from .options import BuildOptions
from .plan import Log, deserialize, open_plan
from .profiles import Profile, Shape, contains, engine_name, profile_for
from .progress import BuildProgress
from .verify import verify_engine

ENGINES = "engines"
"""The folder of a bundle that holds built engines."""

TIMINGS = "timing.cache"
"""The file in it that holds the builder's measurements."""


class TrtEngine:
    """A network of a bundle as a TensorRT engine, built for the sizes it runs with.

    The first run with a new size builds an engine, which takes minutes, compares it with ONNX
    Runtime and stores it in the bundle's ``engines`` folder. One size is loaded at a time.
    ``show_for`` returns the progress display of a build with the given label; ``log`` is called with
    one message per build. Raises EngineError.
    """

    def __init__(
        self,
        path: Path,
        memory: Memory,
        scratch: Scratch,
        options: BuildOptions | None = None,
        show_for: Callable[[str], ShowShare] = share_line,
        log: Callable[[str], None] = log_to_terminal,
    ) -> None:
        self._path, self._memory, self._scratch = path, memory, scratch
        self._options, self._show_for, self._log = options or BuildOptions(), show_for, log
        self._manifest = read_manifest(path.parent / MANIFEST)
        self._stage, self._record = _stage_of(self._manifest, path)
        self.inputs = {spec.name: spec for spec in self._record.inputs}
        self.outputs = {spec.name: spec for spec in self._record.outputs}
        self._gpu = check_machine(self._manifest, self._options)
        self._loaded: ExecutionContext | None = None

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on arrays of the GPU, see Engine; a new size may build an engine first."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        shapes = {name: tuple(inputs[name].shape) for name in self.inputs}
        loaded = self._loaded
        if loaded is None or not contains(loaded.profile, shapes):
            self._loaded = loaded = None  # releases its memory
            self._loaded = loaded = self._open(shapes)
        with self._memory.active():
            return loaded.run(inputs, shapes)

    def _open(self, shapes: Mapping[str, Shape]) -> ExecutionContext:
        profile = profile_for(self._manifest, self._record, shapes, self._options)
        plan = self._path.parent / ENGINES / engine_name(self._stage, profile)
        key = engine_key(self._manifest, self._record, self._gpu, profile, self._options)
        get_or_build(
            plan,
            key,
            lambda: self._build(profile, plan.parent / TIMINGS),
            rebuild=self._options.rebuild,
            log=self._log,
        )
        log = Log()
        return self._load(open_plan(plan, self._path, self._options, log), profile, log)

    def _load(self, engine: Any, profile: Profile, log: Log) -> ExecutionContext:
        return ExecutionContext(
            engine, profile, self.inputs, self.outputs, self._memory, self._scratch, log
        )

    def _build(self, profile: Profile, timings: Path) -> tuple[Any, dict[str, Any]]:
        """Build, inspect and verify an engine; return its plan and notes."""
        precision = self._manifest.precision
        progress = BuildProgress(self._show_for(f"building {self._stage}"))
        began = time.perf_counter()
        data = build_plan(self._path, profile, self._options, precision, timings, progress)
        notes = inspect(data, self._path, profile, self._options)
        if precision == "fp16":
            check_fp16(self._stage, notes["fp16_share"])
        seconds = round(time.perf_counter() - began, 1)
        errors = self._verify(data, profile) if self._options.is_verified else None
        return data, {"seconds": seconds, "errors": errors, **notes}

    def _verify(self, data: Any, profile: Profile) -> dict[str, float]:
        """Return the errors of a built engine against ONNX Runtime on the CPU."""
        try:
            from ..onnxruntime.session import OrtEngine
        except ModuleNotFoundError as error:
            raise EngineError(
                "engines are verified with ONNX Runtime, which is not installed: "
                "pip install onnxruntime, or pass --engine unverified"
            ) from error
        log = Log()
        shapes = {name: usual for name, (_, usual, _) in profile.items()}
        loaded = self._load(deserialize(data, self._path, self._options, log), profile, log)
        memory = self._memory

        def run(**inputs: Array) -> dict[str, Array]:
            with memory.active():
                arrays = {name: memory.upload(array) for name, array in inputs.items()}
                found = loaded.run(arrays, shapes)
                return {name: memory.download(array) for name, array in found.items()}

        self._log(f"verifying {self._stage} against ONNX Runtime on the CPU")
        return verify_engine(self._manifest, self._stage, shapes, run, OrtEngine(self._path).run)


def _stage_of(manifest: Manifest, path: Path) -> tuple[str, StageRecord]:
    for name, record in manifest.stages.items():
        if record.file == path.name:
            return name, record
    raise EngineError(f"{path} is not a network of the bundle in {path.parent}")
