"""Chooses a device: engines that are built already, then CUDA if it computes right, then a processor
that OpenVINO makes faster, then the CPU.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..bundle import DEMO, Bundle, Manifest, Target, check_golden, open_bundle
from ..bundle.golden import BOUNDS, largest_image
from ..errors import BundleError, EngineError
from ..hardware import find_gpu
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
    for library in _libraries_with_engines(bundle.folder):
        load = partial(_with_engines, bundle, library, tf32, log, threads)
        yield library, load, "its engines are built and fit"
    installed = _installed(bundle.manifest.targets)
    if "cuda" in installed:
        yield "cuda", partial(_cuda, tf32), "it gives the golden vectors of the demo model"
    if "openvino" in installed:
        yield "openvino", partial(_openvino, log, threads), "this processor computes in bfloat16"


def likely_device(folder: Path, manifest: Manifest) -> str:
    """Return the name of the device that ``choose_device`` will take, as far as no network tells."""
    names = (*_libraries_with_engines(folder), *_installed(manifest.targets))
    return next(filter(_may_work, names), "cpu")


def _may_work(name: str) -> bool:
    """Return whether the packages of a device are installed, and the machine may have it."""
    try:
        if name == "openvino":
            from .openvino.core import check_bf16

            check_bf16()
        else:
            find_gpu()
    except (*_FAILURES, OSError):  # OSError: a library of OpenVINO does not load
        return False
    return name not in LIBRARIES or _has("cupy", name.replace("-", "_"))


def _installed(targets: Sequence[Target]) -> list[str]:
    """Return those of CUDA and OpenVINO that a bundle is for and whose packages are installed."""
    packages: dict[Target, tuple[str, ...]] = {
        "cuda": ("cupy", "onnxruntime"),
        "openvino": ("openvino",),
    }
    return [name for name, needed in packages.items() if name in targets and _has(*needed)]


def _has(*packages: str) -> bool:
    return all(map(importlib.util.find_spec, packages))


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


def _libraries_with_engines(folder: Path) -> list[Library]:
    """Return the libraries that have engines of the bundle in a folder, that with the newest first.

    A process can load one of them only.
    """
    known: dict[Library, float] = {}
    for library in LIBRARIES:
        for file in (folder / ENGINES).glob(engine_pattern("*", library)):
            with suppress(OSError):  # a link to nothing, or a file that was removed meanwhile
                known[library] = max(known.get(library, 0.0), file.stat().st_mtime)
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
