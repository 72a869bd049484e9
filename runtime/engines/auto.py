"""Chooses a device: engines that are built already, then CUDA if it computes right, then the CPU."""

import importlib.util
from collections.abc import Callable

from ..bundle import DEMO, Bundle, check_golden, open_bundle
from ..bundle.golden import BOUNDS, largest_image
from ..errors import BundleError, EngineError
from ..options import TILE
from ..terminal import log as log_to_terminal
from .device import Device, Host, load_device
from .engine import from_host
from .fallback import EngineOrCpu
from .tensorrt.library import LIBRARIES, Library
from .tensorrt.options import BuildOptions
from .tensorrt.profiles import ENGINES, engine_pattern, stage_shapes

_FAILURES = (ImportError, RuntimeError, BundleError)  # CuPy's errors are RuntimeErrors


def choose_device(
    bundle: Bundle, tf32: bool | None = None, log: Callable[[str], None] = log_to_terminal
) -> tuple[Device, str]:
    """Return a device for a bundle, and why it was chosen, in one line.

    Engines are never built here: TensorRT is chosen only if every stage has an engine for tiles of
    the default size that fits this machine. Images of other sizes then run on the CPU, and ``log`` is
    told.
    """
    reasons = []
    for library in _libraries_with_engines(bundle):
        try:
            device = _with_engines(bundle, library, tf32, log)
        except _FAILURES as error:
            reasons.append(f"{library}: {error}")
        else:
            return device, "its engines are built and fit"
    is_installed = all(map(importlib.util.find_spec, ("cupy", "onnxruntime")))
    if is_installed and "cuda" in bundle.manifest.targets:
        try:
            device = load_device("cuda", tf32=tf32)
            check_device(device, open_bundle(DEMO))
        except _FAILURES as error:
            reasons.append(f"cuda: {error}")
        else:
            return device, "it gives the golden vectors of the demo model"
    return Host(), "; ".join(reasons) or "no GPU packages are installed"


def check_device(device: Device, bundle: Bundle) -> dict[str, dict[str, float]]:
    """Run every stage of a bundle on a device and return the largest errors by stage and output.

    Of the golden vectors, those of the largest single image are used, so that TensorRT builds one
    engine for each stage. Raise EngineError where an error is over the bound.
    """
    bound = BOUNDS[bundle.manifest.precision]
    return {
        stage: check_golden(
            stage,
            from_host(device, device.open(bundle, stage).run),
            largest_image(bundle.golden(stage)),
            bound,
        )
        for stage in bundle.manifest.stages
    }


def _libraries_with_engines(bundle: Bundle) -> list[Library]:
    """Return the libraries that have engines of this bundle, that with the newest first.

    A process can load one of them only.
    """
    newest = {
        library: max((file.stat().st_mtime for file in files), default=None)
        for library in LIBRARIES
        for files in [(bundle.folder / ENGINES).glob(engine_pattern("*", library))]
    }
    known = {library: time for library, time in newest.items() if time is not None}
    return sorted(known, key=lambda library: known[library], reverse=True)


def _with_engines(
    bundle: Bundle, library: Library, tf32: bool | None, log: Callable[[str], None]
) -> Device:
    """Return the device of a library whose engines exist; raise EngineError if one does not fit."""
    device = load_device(library, BuildOptions(rebuild=False, falls_back=True), tf32, log)
    for stage, record in bundle.manifest.stages.items():
        engine = device.open(bundle, stage)
        assert isinstance(engine, EngineOrCpu)
        if not engine.has_engine(stage_shapes(bundle.manifest, record, TILE, TILE)):
            raise EngineError(f"no engine of the {stage} fits this machine for {TILE} x {TILE}")
    return device
