"""Engines built ahead of time by TensorRT-RTX, on a machine that needs no GPU, for a list of GPUs."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...bundle import Bundle
from ...errors import EngineError
from ...options import TILE
from ...terminal import ShowShare, share_line
from ...terminal import log as log_to_terminal
from .library import select_library, selected_library
from .options import BuildOptions
from .profiles import ENGINES, engine_name, padded, profile_for, stage_shapes
from .progress import BuildProgress
from .support import option_refusal, target_of


def build_ahead(
    bundle: Bundle,
    capabilities: Sequence[str],
    options: BuildOptions | None = None,
    *,
    side: int = TILE,
    show_for: Callable[[str], ShowShare] = share_line,
    log: Callable[[str], None] = log_to_terminal,
) -> list[Path]:
    """Build an engine of every network with TensorRT-RTX; return the files in ``bundle/engines``.

    ``capabilities`` names the GPUs: sm86, sm89, sm120. ``options.sides`` makes one engine for a
    range of LR sides; without it the engines are for images (or tiles) of ``side`` x ``side``.
    Engines that exist and fit are kept, so that an interrupted build goes on where it stopped. The
    device checks the golden vectors when it opens an engine first. Raise EngineError, and
    KeyboardInterrupt after Ctrl-C; finished engines stay, and nothing is half-written.
    """
    options = options or BuildOptions()
    served = check_ahead(capabilities, options)
    return [
        _build_stage(bundle, stage, served, options, side, show_for, log)
        for stage in bundle.manifest.stages
    ]


def check_ahead(capabilities: Sequence[str], options: BuildOptions) -> tuple[str, ...]:
    """Return sm86 as 8.6, in rising order and once. Raises as ``build_ahead`` does, before any build."""
    select_library("tensorrt-rtx")
    refused = option_refusal(options, "tensorrt-rtx", is_ahead=True)
    if refused:
        raise EngineError(refused)
    return _served(capabilities)


def _build_stage(
    bundle: Bundle,
    stage: str,
    capabilities: tuple[str, ...],
    options: BuildOptions,
    side: int,
    show_for: Callable[[str], ShowShare],
    log: Callable[[str], None],
) -> Path:
    from .build import BuildRequest, build_plan, engine_key
    from .cache import ANY_GPU, get_or_build
    from .plan import trt

    library, manifest = selected_library(), bundle.manifest
    record = manifest.stages[stage]
    usual = padded(manifest, options.sides[1] if options.sides else side)
    shapes = stage_shapes(manifest, record, usual, usual)
    profile = profile_for(manifest, record, shapes, options)
    plan = bundle.folder / ENGINES / engine_name(stage, library, profile, capabilities)
    request = BuildRequest(
        bundle.path(stage, target_of(library, trt.__version__)),
        profile,
        options,
        manifest.precision,
        options.workspace,
        capabilities,
    )
    progress = BuildProgress(show_for(f"building {stage} for {', '.join(capabilities)}"))
    key = engine_key(bundle, stage, profile, options, ANY_GPU, capabilities)
    get_or_build(plan, key, lambda: build_plan(request, progress), rebuild=options.rebuild, log=log)
    return plan


def _served(capabilities: Sequence[str]) -> tuple[str, ...]:
    """Return sm86 as 8.6, in rising order and once; raise EngineError if one is not served."""
    from .build import served_capabilities
    from .support import numbers

    known = {f"sm{served.replace('.', '')}": served for served in served_capabilities()}
    unknown = [name for name in capabilities if name not in known]
    if unknown or not capabilities:
        raise EngineError(
            f"engines are built ahead of time for {', '.join(known)}, got "
            f"{', '.join(map(repr, unknown)) or 'nothing'}"
        )
    return tuple(sorted({known[name] for name in capabilities}, key=numbers))
