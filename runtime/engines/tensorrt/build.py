"""Builds TensorRT engines with Polygraphy: requirements, key, settings, progress, inspection.

Networks are always strongly typed: the ``.onnx`` file determines the precision. Features that one
version of TensorRT lacks are looked up by name.
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polygraphy.backend.trt import (
    CreateConfig,
    EngineBytesFromNetwork,
    NetworkFromOnnxPath,
    PostprocessConfig,
    SetDecomposableAttentions,
)
from polygraphy.backend.trt import Profile as PolygraphyProfile
from polygraphy.exception import PolygraphyException
from polygraphy.logger import G_LOGGER

from ...bundle import Bundle
from ...errors import EngineError
from ...files import write_whole
from ...hardware import Gpu, GpuError, find_gpu, find_jetson
from ...terminal import captured_stderr, interruptible
from .cache import AMPERE_OR_NEWER, ANY_GPU, EngineKey
from .diagnostics import fp16_share, meaning
from .library import selected_library
from .options import BuildOptions
from .plan import LOG, trt
from .profiles import Profile, is_fixed
from .progress import BuildProgress
from .support import option_refusal, refusal, target_of

_SHARED_WORKSPACE = 2 << 30  # bytes, at most, where the GPU's memory is the machine's
_LEVELS = {
    "this": "NONE",
    "same-capability": "SAME_COMPUTE_CAPABILITY",
    "ampere-or-newer": "AMPERE_PLUS",
}


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


def check_library() -> None:
    """Raise EngineError if this version of the library does not support this machine."""
    jetson = find_jetson()
    refused = refusal(trt.__version__, jetson.jetpack if jetson else None, selected_library())
    if refused:
        raise EngineError(refused)


def check_machine(options: BuildOptions, index: int) -> Gpu:
    """Return GPU ``index``; raise EngineError if it cannot build or run engines of these options."""
    check_library()
    library = selected_library()
    refused = option_refusal(options, library, is_jetson=find_jetson() is not None)
    if not refused and not hasattr(trt.HardwareCompatibilityLevel, _LEVELS[options.gpus]):
        refused = f"TensorRT {trt.__version__} has no {options.gpus}; leave it out"
    if refused:
        raise EngineError(refused)
    try:
        gpu = find_gpu(index)
    except GpuError as error:
        raise EngineError(str(error)) from error
    if library == "tensorrt-rtx" and gpu.capability not in served_capabilities():
        raise EngineError(
            f"TensorRT-RTX {trt.__version__} serves GPUs of compute capability "
            f"{', '.join(served_capabilities())}, and the {gpu.name} has {gpu.capability}; "
            "use --device tensorrt or cuda"
        )
    return gpu


def served_capabilities() -> list[str]:
    """Return the compute capabilities, such as 8.9, that TensorRT-RTX builds for."""
    names = (name.removeprefix("SM") for name in trt.ComputeCapability.__members__)
    return [f"{name[:-1]}.{name[-1]}" for name in names if name.isdecimal()]


def engine_key(
    bundle: Bundle,
    stage: str,
    profile: Profile,
    options: BuildOptions,
    gpu: str,
    capabilities: tuple[str, ...],
) -> EngineKey:
    """Return the key of a stage's engine; the hashes are the manifest's."""
    library = selected_library()
    return EngineKey(
        files=bundle.hashes(stage, target_of(library, trt.__version__)),
        library=library,
        version=trt.__version__,
        gpu=gpu,
        capabilities=capabilities,
        profile=profile,
        flags=options.flags(bundle.manifest.precision),
    )


def key_on(
    gpu: Gpu, bundle: Bundle, stage: str, profile: Profile, options: BuildOptions
) -> EngineKey:
    """Return the key of an engine that this machine builds, for its GPU or for others too."""
    name = gpu.name if options.gpus == "this" else ANY_GPU
    capability = AMPERE_OR_NEWER if options.gpus == "ampere-or-newer" else gpu.capability
    return engine_key(bundle, stage, profile, options, name, (capability,))


def workspace(options: BuildOptions, gpu: Gpu) -> int | None:
    """Return the memory in bytes that one layer may use; None: TensorRT's default, all of it."""
    if options.workspace is None and gpu.is_integrated:
        return min(_SHARED_WORKSPACE, gpu.memory // 4)
    return options.workspace


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build."""

    onnx: Path
    profile: Profile
    options: BuildOptions
    precision: str
    """Of the bundle: fp32 or fp16."""

    workspace: int | None = None
    """Memory in bytes that one layer may use; None: TensorRT's default."""

    capabilities: tuple[str, ...] = ()
    """Compute capabilities such as 8.9 to build ahead of time for; none: for the current GPU."""

    timings: Path | None = None
    """The file of the builder's measurements; None where it measures nothing."""


def build_plan(
    request: BuildRequest,
    progress: BuildProgress,
    on_gpu: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[Any, dict[str, Any]]:
    """Build a plan; return TensorRT's own buffer and notes: seconds and bytes of activations.

    ``on_gpu`` makes the GPU current in the thread that builds. Ctrl-C ends the build at its next step.
    Raise EngineError, and KeyboardInterrupt after Ctrl-C.
    """

    def work() -> Any:
        with on_gpu():
            return _run_loaders(request, progress)

    LOG.clear()
    began = time.perf_counter()
    with captured_stderr():  # the compiler prints what it also reports
        data = interruptible(work, progress.cancel)
    seconds = round(time.perf_counter() - began, 1)
    return data, {"seconds": seconds, "activation_memory": LOG.activations}


def inspect(engine: Any, profile: Profile) -> dict[str, Any]:
    """Return an engine's share of float16 layers, None if unknown, and its number of layers."""
    inspector = engine.create_engine_inspector()
    if not is_fixed(profile):  # the inspector shows no types without sizes
        user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = engine.create_execution_context(user_managed)
        for name, (_, usual, _) in profile.items():
            context.set_input_shape(name, usual)
        inspector.execution_context = context
    share = None
    with suppress(ValueError, json.JSONDecodeError):
        share = fp16_share(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return {"fp16_share": share and round(share, 4), "layers": int(engine.num_layers)}


def _run_loaders(request: BuildRequest, progress: BuildProgress) -> Any:
    """Parse, configure and build with Polygraphy's loaders, which raise what they log."""
    finished: list[Any] = []
    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1):  # LOG has the messages
            configure = PostprocessConfig(
                _config_loader(request, Monitor(progress)),
                lambda builder, network, made: finished.append(_finish_config(made, request)),
            )
            data = EngineBytesFromNetwork(_network_loader(request.onnx), configure)()
    except (PolygraphyException, TypeError) as error:  # TypeError: a binding that returns nothing
        said = meaning(LOG.errors or [str(error)])
        raise EngineError(f"TensorRT cannot build {request.onnx.name}: {said}") from error
    if request.timings:
        (config,) = finished
        measured = config.get_timing_cache()
        with suppress(OSError):  # they only save time
            write_whole(request.timings, memoryview(measured.serialize()))
    return data


def _network_loader(onnx: Path) -> Any:
    """Return a loader of a strongly typed network.

    Its attentions may become several kernels where no fused one serves; where one does, the engine
    is the same.
    """
    return SetDecomposableAttentions(NetworkFromOnnxPath(str(onnx), strongly_typed=True))


def _config_loader(request: BuildRequest, monitor: Monitor) -> Any:
    profile = PolygraphyProfile()
    for name, (low, usual, high) in request.profile.items():
        profile.add(name, low, usual, high)
    options = request.options
    common: dict[str, Any] = {
        "profiles": [profile],
        "builder_optimization_level": options.level,
        "progress_monitor": monitor,
        "strip_plan": options.is_stripped,
    }
    if request.workspace is not None:
        common["memory_pool_limits"] = {trt.MemoryPoolType.WORKSPACE: request.workspace}
    if selected_library() == "tensorrt-rtx":
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        pairs = [tuple(map(int, capability.split("."))) for capability in request.capabilities]
        return CreateConfigRTX(use_gpu=not pairs, compute_capabilities=pairs or None, **common)
    return CreateConfig(
        hardware_compatibility_level=getattr(trt.HardwareCompatibilityLevel, _LEVELS[options.gpus]),
        version_compatible=options.is_version_compatible,
        load_timing_cache=str(request.timings) if request.timings else None,
        **common,
    )


def _finish_config(config: Any, request: BuildRequest) -> Any:
    """Set what Polygraphy's loaders do not."""
    if request.options.allows_tf32(request.precision):
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if request.options.is_stripped:  # plain REFIT would keep the builder from fusing weights
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    if request.timings and config.get_timing_cache() is None:  # of another TensorRT or GPU
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return config
