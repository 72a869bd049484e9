"""Builds engines for a bundle, ahead of time or for this machine's GPU."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.bundle import Bundle
from ..runtime.engines.device import load_device
from ..runtime.engines.tensorrt.aot import build_ahead
from ..runtime.engines.tensorrt.library import LIBRARIES, Library
from ..runtime.engines.tensorrt.options import BuildOptions
from ..runtime.engines.tensorrt.profiles import ENGINES, stage_shapes


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


def build_engines(
    bundle: Bundle, request: EngineRequest, options: BuildOptions, tile: int
) -> list[Path]:
    """Build an engine of every stage for tiles of ``tile`` LR pixels; return the files.

    Engines that exist and fit are kept. Raise ModuleNotFoundError if the library is not installed,
    and EngineError.
    """
    if request.capabilities:
        return build_ahead(bundle, request.capabilities, options, side=tile)
    device = load_device(request.library, options)
    for stage, record in bundle.manifest.stages.items():
        engine = device.open(bundle, stage)
        shapes = stage_shapes(bundle.manifest, record, tile, tile)
        with device.active():  # the first run builds and verifies
            engine.run(**{n: device.upload(np.zeros(s, np.float32)) for n, s in shapes.items()})
    return sorted((bundle.folder / ENGINES).glob(f"*.{request.library}.engine"))


def describe(paths: Iterable[Path]) -> str:
    """Return one line per engine: file and size."""
    return "\n".join(f"{path}  {path.stat().st_size / 1e6:.1f} MB" for path in paths)
