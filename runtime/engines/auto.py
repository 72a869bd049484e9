"""Chooses a device: engines that are built already, then CUDA if it computes right, then the CPU."""

import importlib.util
from collections.abc import Mapping

from ..bundle import DEMO, Bundle, check_golden, open_bundle
from ..bundle.golden import BOUNDS, largest_image
from ..errors import BundleError, EngineError
from ..options import TILE
from ..tensors import Array
from .device import Device, Host, load_device
from .tensorrt.library import LIBRARIES, Library
from .tensorrt.options import BuildOptions
from .tensorrt.profiles import ENGINES, engine_pattern, stage_shapes


def choose_device(bundle: Bundle, tf32: bool | None = None) -> tuple[Device, str]:
    """Return a device for a bundle, and why it was chosen, in one line.

    Engines are never built here: TensorRT is chosen only if every stage has an engine for tiles of
    the default size that fits this machine.
    """
    reasons = []
    for library in LIBRARIES:
        if not any((bundle.folder / ENGINES).glob(engine_pattern("*", library))):
            continue
        try:
            return _with_engines(bundle, library, tf32), "its engines are built and fit"
        except (ImportError, EngineError, BundleError) as error:
            reasons.append(f"{library}: {error}")
    if all(map(importlib.util.find_spec, ("cupy", "onnxruntime"))):
        try:
            device = load_device("cuda", tf32=tf32)
            check_device(device, open_bundle(DEMO))
        except (ImportError, EngineError) as error:
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
    errors = {}
    for stage in bundle.manifest.stages:
        engine = device.open(bundle, stage)

        def run(**inputs: Array) -> Mapping[str, Array]:
            with device.active():
                arrays = {name: device.upload(array) for name, array in inputs.items()}
                found = engine.run(**arrays)  # noqa: B023  # called before the next engine
                return {name: device.download(array) for name, array in found.items()}

        cases = largest_image(bundle.golden(stage))
        errors[stage] = check_golden(stage, run, cases, bound)
    return errors


def _with_engines(bundle: Bundle, library: Library, tf32: bool | None) -> Device:
    """Return the device of a library whose engines exist; raise EngineError if one does not fit."""
    device = load_device(library, BuildOptions(rebuild=False), tf32)
    from .tensorrt.engine import TrtEngine

    for stage, record in bundle.manifest.stages.items():
        engine = device.open(bundle, stage)
        shapes = stage_shapes(bundle.manifest, record, TILE, TILE)
        assert isinstance(engine, TrtEngine)
        if not engine.has_engine(shapes):
            raise EngineError(f"no engine of the {stage} fits this machine for {TILE} x {TILE}")
    return device
