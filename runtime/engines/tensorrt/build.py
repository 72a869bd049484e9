"""Builds TensorRT engines: requirements, key, builder settings, progress, inspection.

Networks are always strongly typed: the ``.onnx`` file determines the precision. Features that one
version of TensorRT lacks are looked up by name.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import tensorrt as trt

from ...bundle import Manifest, StageRecord
from ...errors import EngineError
from ...files import write_whole
from ...hardware import Gpu, GpuError, find_gpu, find_jetson
from ...terminal import interruptible
from .cache import EngineKey
from .diagnostics import LEAST_FP16_SHARE, fp16_share, meaning
from .options import BuildOptions
from .plan import Log, create, deserialize
from .profiles import Profile, is_fixed
from .progress import BuildProgress
from .support import best_opset, refusal


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # untyped
    """Forwards the builder's phases. Never raises, because only C++ could catch the exception."""

    def __init__(self, progress: BuildProgress) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress = progress

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Forward the start of a phase."""
        with suppress(Exception):
            self._progress.start(phase_name, parent_phase or None, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Forward a finished step; return False to cancel the build."""
        with suppress(Exception):
            return self._progress.step(phase_name, step)
        return not self._progress.is_cancelled

    def phase_finish(self, phase_name: str) -> None:
        """Forward the end of a phase."""
        with suppress(Exception):
            self._progress.finish(phase_name)


def check_version() -> None:
    """Raise EngineError if this version of TensorRT does not support this machine."""
    jetson = find_jetson()
    refused = refusal(trt.__version__, jetson.jetpack if jetson else None)
    if refused:
        raise EngineError(refused)


def check_machine(manifest: Manifest, options: BuildOptions) -> Gpu:
    """Return the GPU; raise EngineError if this machine cannot build or run the bundle's engines."""
    check_version()
    if options.is_hardware_compatible and find_jetson():
        raise EngineError(
            "a Jetson cannot build engines for other GPUs; leave out hardware-compatible"
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
    """Return the key of a stage's engine; the manifest's hashes were checked when it was opened."""
    any_gpu = options.is_hardware_compatible
    return EngineKey(
        files={
            name: entry.sha256
            for name, entry in manifest.files.items()
            if name == record.file or name.startswith(f"{record.file}.")
        },
        tensorrt="10.3 or newer" if options.is_version_compatible else trt.__version__,
        gpu="any" if any_gpu else gpu.name,
        capability="8.0 or newer" if any_gpu else gpu.capability,
        driver="any" if any_gpu else gpu.driver,
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
    """Build a plan and return TensorRT's own buffer. Ctrl-C ends the build at its next step.

    TF32 is allowed in float16 networks only, whose float32 islands need the range and not the
    digits. Raise EngineError, and KeyboardInterrupt after Ctrl-C.
    """
    log = Log()
    builder = create(lambda: trt.Builder(log), log, "the builder does not start")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        messages = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineError(f"TensorRT cannot read {onnx}: {meaning(messages or log.errors)}")
    _allow_decomposed_attention(network)
    config = builder.create_builder_config()
    _configure(config, options, precision)
    limits = builder.create_optimization_profile()
    for name, (low, usual, high) in profile.items():
        limits.set_shape(name, low, usual, high)
    if config.add_optimization_profile(limits) < 0:
        raise EngineError(f"TensorRT rejects these sizes for {onnx.name}: {dict(profile)}")
    _use_timings(config, timings)
    monitor = Monitor(progress)
    config.progress_monitor = monitor
    data = interruptible(lambda: builder.build_serialized_network(network, config), progress.cancel)
    if data is None:
        raise EngineError(f"TensorRT cannot build {onnx.stem}: {meaning(log.errors)}")
    with suppress(OSError):  # the timing cache only saves time
        write_whole(timings, memoryview(config.get_timing_cache().serialize()))
    return data


def inspect(data: Any, onnx: Path, profile: Profile, options: BuildOptions) -> dict[str, Any]:
    """Return a built engine's share of float16 layers, number of layers and device memory."""
    log = Log()
    engine = deserialize(data, onnx, options, log)
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
    """Raise EngineError if too few layers of a float16 network compute in float16."""
    if share < LEAST_FP16_SHARE:
        raise EngineError(
            f"only {share:.0%} of the layers of {stage} compute in float16, and at least "
            f"{LEAST_FP16_SHARE:.0%} must; export the checkpoint again with --fp16, or without it"
        )


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
    if options.is_stripped:  # plain REFIT would keep the builder from fusing weights
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)


def _allow_decomposed_attention(network: Any) -> None:
    """Let Attention run as several kernels if no fused kernel supports its heads or its float32.

    Parsers from 10.14 on create an attention layer, which fails in that case by default.
    """
    for index in range(network.num_layers):
        attention = getattr(network.get_layer(index), "attention", None)
        if attention is not None:
            attention.decomposable = True


def _use_timings(config: Any, timings: Path) -> None:
    """Load the timing cache if this version of TensorRT accepts it; otherwise start an empty one."""
    known = timings.read_bytes() if timings.is_file() else b""
    if not (known and config.set_timing_cache(config.create_timing_cache(known), False)):
        config.set_timing_cache(config.create_timing_cache(b""), False)
