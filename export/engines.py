"""Builds engines for a bundle, ahead of time or for this machine's GPU."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.bundle import Bundle, Target
from ..runtime.engines.device import load_device
from ..runtime.engines.engine import from_host
from ..runtime.engines.tensorrt.aot import build_ahead, check_ahead
from ..runtime.engines.tensorrt.library import LIBRARIES, Library, select_library
from ..runtime.engines.tensorrt.options import BuildOptions
from ..runtime.engines.tensorrt.profiles import ENGINES, engine_pattern, padded, stage_shapes
from ..runtime.engines.tensorrt.support import target_of


@dataclass(frozen=True)
class EngineRequest:
    """A library, and the GPUs to build for ahead of time; none: this machine's GPU."""

    library: Library
    capabilities: tuple[str, ...] = ()
    """Such as sm89."""


def parse_request(text: str) -> EngineRequest:
    """Parse ``tensorrt``, ``tensorrt-rtx`` or ``tensorrt-rtx:sm86,sm89``. Raise ValueError."""
    name, colon, listed = text.partition(":")
    for library in LIBRARIES:
        if name != library:
            continue
        if colon and library != "tensorrt-rtx":
            raise ValueError(
                f"engine must be {library}, which builds on its GPU; only tensorrt-rtx builds ahead "
                f"of time, got '{text}'"
            )
        if not colon or all(listed.split(",")):
            return EngineRequest(library, tuple(listed.split(",")) if colon else ())
    raise ValueError(
        f"engine must be {', '.join(LIBRARIES)} or tensorrt-rtx:sm86,sm89 (a list of GPUs), got '{text}'"
    )


def check_requests(
    requests: Sequence[EngineRequest], options: BuildOptions, targets: Sequence[Target]
) -> None:
    """Raise an error where engines cannot be built, before an export takes its time.

    ModuleNotFoundError if a library is not installed, ValueError for two libraries or a missing target,
    EngineError for GPUs or settings that a library does not serve.
    """
    if len({request.library for request in requests}) > 1:
        raise ValueError("one command builds with one library: tensorrt or tensorrt-rtx, got both")
    for request in requests:
        select_library(request.library)
        if request.capabilities:
            check_ahead(request.capabilities, options)
    if requests:
        _check_target(requests[0].library, targets)


def _check_target(library: Library, targets: Sequence[Target]) -> None:
    """Raise ValueError unless the target whose graphs the selected library reads is there."""
    from ..runtime.engines.tensorrt.plan import trt  # of the selected library

    needed = target_of(library, trt.__version__)
    if needed not in targets:
        raise ValueError(
            f"{library} {trt.__version__} needs a graph for {needed}, got {', '.join(targets)}; "
            f"add --target {needed}"
        )


def build_engines(
    bundle: Bundle, request: EngineRequest, options: BuildOptions, tile: int
) -> list[Path]:
    """Build an engine of every stage for tiles of ``tile`` LR pixels, or for ``options.sides``; return the files.

    Engines that exist and fit are kept. Raise ModuleNotFoundError if the library is not installed,
    and EngineError.
    """
    if request.capabilities:
        return build_ahead(bundle, request.capabilities, options, side=tile)
    device = load_device(request.library, options)
    side = padded(bundle.manifest, options.sides[1] if options.sides else tile)
    for stage, record in bundle.manifest.stages.items():
        run = from_host(device, device.open(bundle, stage).run)
        shapes = stage_shapes(bundle.manifest, record, side, side)
        run(**{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})  # builds
    return sorted((bundle.folder / ENGINES).glob(engine_pattern("*", request.library)))


def describe(paths: Iterable[Path]) -> str:
    """Return one line per engine: file and size."""
    return "\n".join(f"{path}  {path.stat().st_size / 1e6:.1f} MB" for path in paths)
