"""TensorRT, 10.3 to 11: the only file that imports it.

Every name and signature used here was held against the published bindings of 10.3, 10.16 and 11.4
(tests/runtime/engines/tensorrt/test_engine.py), and the order of calls against a fake. Nothing of it was executed on a
GPU yet. The two major versions differ in little, since networks here are always strongly typed:
precision is what the ``.onnx`` file says. What one of them lacks is asked for by name.
"""

import json
import mmap
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

import tensorrt as trt

from ...bundle import MANIFEST, Manifest, StageRecord, read_manifest
from ...errors import EngineError
from ...files import write_whole
from ...hardware import Gpu, GpuError, find_gpu, find_jetson
from ...tensors import Array
from ...terminal import ShowShare, interruptible
from .cache import EngineKey, Profile, Shape, get_or_build
from .profiles import BuildOptions, engine_name, holds, is_fixed, profile_for, stage_shapes
from .progress import BuildProgress
from .support import LEAST_FP16_SHARE, best_opset, fp16_share, meaning, refusal
from .verify import verify_engine

ENGINES = "engines"  # the folder of a bundle; TIMINGS in it is what the builder measured
TIMINGS = "timing.cache"
_DTYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}


class Memory(Protocol):
    """The GPU memory and the one stream on which everything runs."""

    @property
    def stream(self) -> int:
        """The address of the stream."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """A block whose array operations run on that stream."""
        ...

    def upload(self, array: Array) -> Array: ...

    def download(self, array: Array) -> Array: ...

    def empty(self, shape: Shape, dtype: str) -> Array: ...

    def pointer(self, array: Array) -> int: ...

    def synchronize(self) -> None:
        """Wait for everything on the stream."""
        ...

    def captured(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """What ``work`` puts on the stream, as a CUDA graph to launch; None where that fails."""
        ...


class Scratch:
    """The memory that engines compute in: one block for all of them, since one runs at a time."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._block: Array | None = None

    def reserve(self, size: int) -> None:
        """Make the block at least so many bytes. What was told its address must be told again."""
        if self._block is None or self._block.nbytes < size:
            self._memory.synchronize()
            self._block = None  # before the larger one, so that both are never held
            self._block = self._memory.empty((max(1, size),), "uint8")

    @property
    def pointer(self) -> int:
        return 0 if self._block is None else self._memory.pointer(self._block)


class TrtEngine:
    """A network of a bundle as a TensorRT engine, built for the sizes that it is run with.

    An engine for a new size is built on the first run, which takes minutes, held against ONNX
    Runtime, and kept in the bundle's ``engines`` folder. One size is loaded at a time. ``show_for`` makes the progress
    display of a build of some name, ``report`` is called with one line about each. Raises EngineError.
    """

    def __init__(
        self,
        path: Path,
        memory: Memory,
        scratch: Scratch,
        options: BuildOptions | None = None,
        show_for: Callable[[str], ShowShare] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._path, self._memory, self._scratch = path, memory, scratch
        self._options, self._show_for, self._report = options or BuildOptions(), show_for, report
        self._manifest = read_manifest(path.parent / MANIFEST)
        self._stage, self._record = _stage_of(self._manifest, path)
        self.inputs = {spec.name: spec for spec in self._record.inputs}
        self.outputs = {spec.name: spec for spec in self._record.outputs}
        self._gpu = check_here(self._manifest, self._options)
        self._loaded: _Loaded | None = None

    def run(self, **inputs: Array) -> dict[str, Array]:
        """As in Engine; the arrays are this memory's. A new size may build an engine first."""
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        shapes = {name: tuple(inputs[name].shape) for name in self.inputs}
        loaded = self._loaded
        if loaded is None or not holds(loaded.profile, shapes):
            self._loaded = loaded = None  # its memory is needed
            self._loaded = loaded = self._open(shapes)
        with self._memory.active():
            return loaded.run(inputs, shapes)

    def prepare(self, height: int, width: int) -> Path:
        """Build, where need be, the engine for padded LR images of this size; where it lies."""
        return self._get_or_build(stage_shapes(self._manifest, self._record, height, width))[0]

    def _open(self, shapes: Mapping[str, Shape]) -> "_Loaded":
        plan, profile = self._get_or_build(shapes)
        log = Log()
        return self._load(open_plan(plan, self._path, self._options, log), profile, log)

    def _load(self, engine: Any, profile: Profile, log: "Log") -> "_Loaded":
        return _Loaded(engine, profile, self.inputs, self.outputs, self._memory, self._scratch, log)

    def _get_or_build(self, shapes: Mapping[str, Shape]) -> tuple[Path, Profile]:
        profile = profile_for(self._manifest, self._record, shapes, self._options)
        plan = self._path.parent / ENGINES / engine_name(self._stage, profile)
        key = engine_key(self._manifest, self._record, self._gpu, profile, self._options)

        def build() -> tuple[Any, dict[str, Any]]:
            show = self._show_for(f"building {self._stage}") if self._show_for else _unseen
            began = time.perf_counter()
            data = build_plan(self._path, profile, self._options, self._manifest.precision,
                              plan.parent / TIMINGS, BuildProgress(show))  # fmt: skip
            notes = inspect(data, self._path, profile, self._options)
            if self._manifest.precision == "fp16":
                check_fp16(self._stage, notes["fp16_share"])
            seconds = round(time.perf_counter() - began, 1)
            errors = self._verify(data, profile) if self._options.is_verified else None
            return data, {"seconds": seconds, "errors": errors, **notes}

        get_or_build(plan, key, build, rebuild=self._options.rebuild, log=self._report)
        return plan, profile

    def _verify(self, data: Any, profile: Profile) -> dict[str, float]:
        """The built engine's errors against ONNX Runtime on the CPU. Raises EngineError."""
        try:
            from ..onnxruntime.session import OrtEngine
        except ModuleNotFoundError as error:
            raise EngineError(
                "an engine is verified with ONNX Runtime, which is not installed: "
                "pip install onnxruntime, or pass --engine unverified"
            ) from error
        log = Log()
        shapes = {name: usual for name, (_, usual, _) in profile.items()}
        loaded = self._load(_deserialize(data, self._path, self._options, log), profile, log)
        memory = self._memory

        def run(**inputs: Array) -> dict[str, Array]:
            with memory.active():
                arrays = {name: memory.upload(array) for name, array in inputs.items()}
                found = loaded.run(arrays, shapes)
                return {name: memory.download(array) for name, array in found.items()}

        if self._report:
            self._report(f"verifying {self._stage} against ONNX Runtime on the CPU")
        return verify_engine(self._manifest, self._stage, shapes, run, OrtEngine(self._path).run)


class Log(trt.ILogger):  # type: ignore[misc]  # untyped
    """Keeps what TensorRT says of errors, instead of printing it."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(msg)


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # untyped
    """Hands the builder's phases on. It must not raise: there is only C++ to catch it."""

    def __init__(self, progress: BuildProgress) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress = progress

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        with suppress(Exception):
            self._progress.start(phase_name, parent_phase or None, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        with suppress(Exception):
            return self._progress.step(phase_name, step)
        return not self._progress.is_cancelled

    def phase_finish(self, phase_name: str) -> None:
        with suppress(Exception):
            self._progress.finish(phase_name)


def check_version() -> None:
    """Raise EngineError where this TensorRT does not serve this machine."""
    jetson = find_jetson()
    refused = refusal(trt.__version__, jetson.jetpack if jetson else None)
    if refused:
        raise EngineError(refused)


def check_here(manifest: Manifest, options: BuildOptions) -> Gpu:
    """The GPU. Raises EngineError where this machine cannot build or run this bundle's engines."""
    check_version()
    if options.is_hardware_compatible and find_jetson():
        raise EngineError(
            "a Jetson cannot build engines for other GPUs; leave hardware-compatible off"
        )
    opset = best_opset(trt.__version__)
    if manifest.opset > opset:
        raise EngineError(
            f"the bundle has ONNX operator set {manifest.opset}, and TensorRT {trt.__version__} "
            f"needs {opset}; export the checkpoint with --opset {opset}"
        )
    try:
        return find_gpu()
    except GpuError as error:
        raise EngineError(str(error)) from error


def engine_key(
    manifest: Manifest, record: StageRecord, gpu: Gpu, profile: Profile, options: BuildOptions
) -> EngineKey:
    """What an engine of this stage depends on. The manifest's SHA-256 were checked on opening."""
    anywhere = options.is_hardware_compatible
    return EngineKey(
        files={
            name: entry.sha256
            for name, entry in manifest.files.items()
            if name == record.file or name.startswith(f"{record.file}.")
        },
        tensorrt="10.3 or newer" if options.is_version_compatible else trt.__version__,
        gpu="any" if anywhere else gpu.name,
        capability="8.0 or newer" if anywhere else gpu.capability,
        driver="any" if anywhere else gpu.driver,
        profile=profile,
        flags=(*options.flags(), f"precision={manifest.precision}"),
    )


def build_plan(
    onnx: Path,
    profile: Profile,
    options: BuildOptions,
    precision: str,
    timings: Path,
    progress: BuildProgress,
) -> Any:
    """Build a plan: TensorRT's own buffer. Ctrl-C ends it at the builder's next step.

    TF32 is allowed in float16 networks only, whose float32 islands need the range and not the
    digits. Raises EngineError, and KeyboardInterrupt after Ctrl-C.
    """
    log = Log()
    builder = _made(lambda: trt.Builder(log), log, "the builder does not start")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        said = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f"TensorRT cannot read {onnx}: {meaning(said or log.errors)}")
    _let_attention_decompose(network)
    config = builder.create_builder_config()
    _configure(config, options, precision)
    limits = builder.create_optimization_profile()
    for name, (low, usual, high) in profile.items():
        limits.set_shape(name, low, usual, high)
    if config.add_optimization_profile(limits) < 0:
        raise EngineError(f"TensorRT takes no such sizes for {onnx.name}: {dict(profile)}")
    _use_timings(config, timings)
    monitor = Monitor(progress)
    config.progress_monitor = monitor
    data = interruptible(lambda: builder.build_serialized_network(network, config), progress.cancel)
    if data is None:
        raise EngineError(f"TensorRT cannot build {onnx.stem}: {meaning(log.errors)}")
    with suppress(OSError):  # it only saves time
        write_whole(timings, memoryview(config.get_timing_cache().serialize()))
    return data


def open_plan(plan: Path, onnx: Path, options: BuildOptions, log: Log) -> Any:
    """Open a plan that ``get_or_build`` vouched for, from the file itself, so that no copy is held."""
    try:
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _deserialize(data, onnx, options, log)
    except (OSError, ValueError) as error:
        raise EngineError(f"{plan} cannot be read: {error}") from error


def inspect(data: Any, onnx: Path, profile: Profile, options: BuildOptions) -> dict[str, Any]:
    """What the built engine is: the share of half layers, their number, the memory it computes in."""
    log = Log()
    engine = _deserialize(data, onnx, options, log)
    inspector = engine.create_engine_inspector()
    if not is_fixed(profile):  # the inspector shows no types without sizes
        user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = engine.create_execution_context(user_managed)
        for name, (_, usual, _) in profile.items():
            context.set_input_shape(name, usual)
        inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        share = round(fp16_share(text), 4)
    except (ValueError, json.JSONDecodeError) as error:
        raise EngineError(f"TensorRT does not show the layers of {onnx.stem}: {error}") from error
    return {
        "fp16_share": share,
        "layers": int(engine.num_layers),
        "device_memory": int(engine.device_memory_size_v2),
    }


def check_fp16(stage: str, share: float) -> None:
    """Raise EngineError where a float16 network became mostly something else."""
    if share < LEAST_FP16_SHARE:
        raise EngineError(
            f"only {share:.0%} of the layers of {stage} compute in float16, and at least "
            f"{LEAST_FP16_SHARE:.0%} must; export the checkpoint again with --fp16, or without it"
        )


class _Loaded:
    """An engine on the GPU, with memory for its inputs and outputs, and its CUDA graph."""

    def __init__(
        self,
        engine: Any,
        profile: Profile,
        inputs: Mapping[str, Any],
        outputs: Mapping[str, Any],
        memory: Memory,
        scratch: Scratch,
        log: Log,
    ) -> None:
        self.profile = profile
        self._engine, self._memory, self._scratch, self._log = engine, memory, scratch, log
        self._outputs = outputs
        _check_signature(engine, {**inputs, **outputs})
        self._size = int(engine.device_memory_size_v2)
        scratch.reserve(self._size)
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = engine.create_execution_context(strategy)
        if self._context is None:
            raise EngineError(f"TensorRT cannot make a context: {meaning(log.errors)}")
        self._bound: tuple[Mapping[str, Shape], int] | None = None
        self._held: dict[str, Array] = {}
        self._launch: Callable[[], None] = self._execute

    def run(self, inputs: Mapping[str, Array], shapes: Mapping[str, Shape]) -> dict[str, Array]:
        if self._bound != (shapes, self._scratch.pointer):
            self._bind(shapes)
        for name in shapes:
            self._held[name][...] = inputs[name]
        self._launch()
        return {name: self._held[name].copy() for name in self._outputs}

    def _bind(self, shapes: Mapping[str, Shape]) -> None:
        """Give the context its addresses; for a fixed size, record the run as a CUDA graph."""
        self._launch = self._execute
        context = self._context
        context.set_device_memory(self._scratch.pointer, self._size)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(
                    f"TensorRT does not take shape {shape} for '{name}': {self._why()}"
                )
        sizes = {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        for name, shape in {**shapes, **sizes}.items():
            dtype = "float32"  # every input and output is; _check_signature has seen to it
            self._held[name] = self._memory.empty(shape, dtype)
            if not context.set_tensor_address(name, self._memory.pointer(self._held[name])):
                raise EngineError(f"TensorRT takes no memory for '{name}': {self._why()}")
        if is_fixed(self.profile):
            for name in shapes:
                self._held[name][...] = 0
            self._execute()  # the first run of a context sets things up that cannot be recorded
            self._memory.synchronize()
            self._launch = self._memory.captured(self._execute) or self._execute
        self._bound = (dict(shapes), self._scratch.pointer)

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._memory.stream):
            raise EngineError(f"TensorRT failed: {self._why()}")

    def _why(self) -> str:
        return meaning(self._log.errors)


def _configure(config: Any, options: BuildOptions, precision: str) -> None:
    config.builder_optimization_level = options.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the inspector
    if precision != "fp16":
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.is_version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.is_hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.is_stripped:  # identical: plain REFIT keeps the builder from fusing weights
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)


def _let_attention_decompose(network: Any) -> None:
    """Let Attention run as several kernels where no fused one fits its heads or its float32.

    Parsers from 10.14 on make an attention of its own, which otherwise fails there.
    """
    for index in range(network.num_layers):
        attention = getattr(network.get_layer(index), "attention", None)
        if attention is not None:
            attention.decomposable = True


def _use_timings(config: Any, timings: Path) -> None:
    """Start from what was measured before, where this TensorRT and this GPU wrote it."""
    known = timings.read_bytes() if timings.is_file() else b""
    if not (known and config.set_timing_cache(config.create_timing_cache(known), False)):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _deserialize(data: Any, onnx: Path, options: BuildOptions, log: Log) -> Any:
    """The engine of a plan; the weights of a stripped one come from the ``.onnx`` file."""
    runtime = _made(lambda: trt.Runtime(log), log, "the runtime does not start")
    if options.is_version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(f"TensorRT cannot open the engine of {onnx.stem}: {meaning(log.errors)}")
    if options.is_stripped:
        refitter = trt.Refitter(engine, log)
        weights = trt.OnnxParserRefitter(refitter, log)
        if not (weights.refit_from_file(str(onnx)) and refitter.refit_cuda_engine()):
            raise EngineError(f"the weights of {onnx} do not fit the engine: {meaning(log.errors)}")
    return engine


def _made(make: Callable[[], Any], log: Log, failure: str) -> Any:
    """What a factory makes; the bindings raise TypeError where it gives nothing."""
    try:
        return make()
    except (TypeError, RuntimeError) as error:
        raise EngineError(f"TensorRT: {failure}: {meaning(log.errors)}") from error


def _check_signature(engine: Any, specs: Mapping[str, Any]) -> None:
    """Raise EngineError unless the engine has the tensors that the manifest says."""
    names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    wrong = names ^ specs.keys()
    for name, spec in specs.items():
        wanted = getattr(trt.DataType, _DTYPES[spec.dtype])
        if name in names and engine.get_tensor_dtype(name) != wanted:
            wrong.add(name)
    if wrong:
        raise EngineError(
            f"the engine's tensors are not the manifest's: {', '.join(sorted(wrong))}; "
            "export the checkpoint again"
        )


def _stage_of(manifest: Manifest, path: Path) -> tuple[str, StageRecord]:
    for name, record in manifest.stages.items():
        if record.file == path.name:
            return name, record
    raise EngineError(f"{path} must be a network of the bundle in {path.parent}, and it is not")


def _unseen(share: float, left: float | None) -> None:
    """The progress that nobody watches."""
