"""Chooses a device: engines that are built already, then CUDA if it computes right, then a processor
that OpenVINO makes faster, then the CPU.
"""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

from ..bundle import DEMO, Bundle, check_golden, open_bundle
from ..bundle.golden import BOUNDS, largest_image
from ..errors import BundleError, EngineError
from ..options import TILE
from ..terminal import log as log_to_terminal
from .device import Device, load_device, load_onnx_device
from .engine import from_host
from .fallback import EngineOrCpu
from .tensorrt.library import LIBRARIES, Library
from .tensorrt.options import BuildOptions
from .tensorrt.profiles import ENGINES, engine_pattern, stage_shapes

_FAILURES = (ImportError, RuntimeError, BundleError)  # CuPy's errors are RuntimeErrors


def choose_device(
    bundle: Bundle,
    tf32: bool | None = None,
    log: Callable[[str], None] = log_to_terminal,
    threads: int | None = None,
) -> tuple[Device, str]:
    """Return a device for a bundle, and why it was chosen, in one line.

    Engines are never built here: TensorRT is chosen only if every stage has an engine for tiles of
    the default size that fits this machine. Images of other sizes then run on the CPU, and ``log`` is
    told. ``threads``: of a processor's networks; None: one for each core.
    """
    reasons = []
    for name, load, reason in _candidates(bundle, tf32, log, threads):
        try:
            return load(), reason
        except _FAILURES as error:
            reasons.append(f"{name}: {error}")
    host = load_onnx_device("cpu", threads=threads)
    return host, "; ".join(reasons) or "no GPU packages are installed"


def _candidates(
    bundle: Bundle, tf32: bool | None, log: Callable[[str], None], threads: int | None
) -> Iterator[tuple[str, Callable[[], Device], str]]:
    """Return devices that may be better than the CPU: name, how to load it, why it is taken."""
    for library in _libraries_with_engines(bundle):
        load = partial(_with_engines, bundle, library, tf32, log, threads)
        yield library, load, "its engines are built and fit"
    targets, is_installed = bundle.manifest.targets, importlib.util.find_spec
    if "cuda" in targets and all(map(is_installed, ("cupy", "onnxruntime"))):
        yield "cuda", partial(_cuda, tf32), "it gives the golden vectors of the demo model"
    if "openvino" in targets and is_installed("openvino"):
        yield "openvino", partial(_openvino, log, threads), "this processor computes in bfloat16"


def _cuda(tf32: bool | None) -> Device:
    """Return CUDA; raise EngineError if it does not give the golden vectors of the demo model."""
    device = load_device("cuda", tf32=tf32)
    check_device(device, open_bundle(DEMO))
    return device


def _openvino(log: Callable[[str], None], threads: int | None) -> Device:
    """Return OpenVINO; raise EngineError where it gains little, since nothing computes in bfloat16."""
    device = load_device("openvino", log=log, threads=threads)
    from .openvino.core import check_bf16

    check_bf16()
    return device


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
    bundle: Bundle,
    library: Library,
    tf32: bool | None,
    log: Callable[[str], None],
    threads: int | None,
) -> Device:
    """Return the device of a library whose engines exist; raise EngineError if one does not fit."""
    build = BuildOptions(rebuild=False, falls_back=True)
    device = load_device(library, build, tf32, log, threads=threads)
    for stage, record in bundle.manifest.stages.items():
        engine = device.open(bundle, stage)
        assert isinstance(engine, EngineOrCpu)
        if not engine.has_engine(stage_shapes(bundle.manifest, record, TILE, TILE)):
            raise EngineError(f"no engine of the {stage} fits this machine for {TILE} x {TILE}")
    return device
