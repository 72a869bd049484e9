"""Adds 8-bit networks to a finished bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...runtime.bundle import (
    FileRecord,
    GoldenCase,
    Int8Record,
    Manifest,
    open_bundle,
    sha256,
)
from ...runtime.bundle.golden import largest_image
from ...runtime.bundle.integrity import Bundle
from ...runtime.engines.device import OnnxDevice, load_onnx_device
from ...runtime.engines.openvino.core import preferred_precision
from ...runtime.engines.openvino.golden_errors import BOUNDS
from ...runtime.engines.precision import FP32, PrecisionOptions
from ...runtime.files import whole_folder
from ...runtime.terminal import Progress, Silent
from ..errors import VerificationError
from ..graph.weights import weights_size, write_graphs
from . import TARGET
from .calibration import Scratch
from .samples import IMAGES, Inputs, record_inputs
from .search import Int8Network, find_network

FOLDER = "int8"
"""In the bundle."""

STAGES = ("restorer", "denoiser")
"""The networks that gain by 8 bits; the VAE's gain 1.2 times over bfloat16 and lose more."""


def add_int8(folder: Path, progress: Progress | None = None) -> Manifest:
    """Add 8-bit networks of STAGES to a bundle, for ``--precision int8``; return its new manifest.

    Ranges come from procedural images that the bundle upscales and from its golden vectors. Which products
    stay in float is found by measuring each, until the stage is within the bound of bfloat16; a stage of
    which too much would stay in float is left out, with a note. Networks that were there are replaced.
    Raise BundleError, EngineError, or VerificationError where every stage is left out; after any error
    the bundle is unchanged.
    """
    progress = progress or Silent()
    bundle = open_bundle(folder)
    device = load_onnx_device(TARGET, precision=FP32)
    with progress.phase("upscaling images to calibrate on", IMAGES) as advance:
        runs = record_inputs(bundle, device, advance)
    with whole_folder(folder / FOLDER) as new:
        networks: dict[str, Int8Network] = {}
        for stage in STAGES:
            inputs = [image[stage] for image in runs]
            try:
                networks[stage] = _quantized(bundle, stage, inputs, new, device, progress)
            except VerificationError as error:
                progress.note(f"{error}; it is left out")
        if not networks:
            raise VerificationError("no stage of this checkpoint keeps its accuracy in int8")
        records = {
            f"{FOLDER}/{path.name}": FileRecord(path.stat().st_size, sha256(path))
            for path in new.iterdir()
        }
        if any(record.int8 for record in bundle.manifest.stages.values()):
            _updated(bundle.manifest, {}, {}).write(folder)  # valid whenever the process dies
    manifest = _updated(bundle.manifest, networks, records)
    manifest.write(folder)
    return manifest


def _quantized(
    bundle: Bundle,
    stage: str,
    images: Sequence[Sequence[Inputs]],
    folder: Path,
    device: OnnxDevice,
    progress: Progress,
) -> Int8Network:
    """Find a stage's 8-bit network and write it to ``folder``."""
    golden, source = bundle.golden(stage), bundle.path(stage, TARGET)
    smallest = [case.inputs for case in golden if _size(case.inputs) == _size(golden[0].inputs)]
    samples = [*smallest, *(run for image in images[:-1] for run in image)]
    judges = [*largest_image(golden), *_run(device, source, images[-1])]
    judge = load_onnx_device(TARGET, precision=PrecisionOptions(preferred_precision()))
    scratch = Scratch(source, folder, device, judge)
    try:
        network = find_network(stage, scratch, samples, judges, BOUNDS[stage], progress)
    finally:
        scratch.clear()
    graphs = {folder / f"{stage}.onnx": network.model}
    with progress.phase(f"{stage}: writing", weights_size(graphs)) as advance:
        write_graphs(graphs, folder / f"{stage}.weights", advance)
    return network


def _run(device: OnnxDevice, source: Path, runs: Sequence[Inputs]) -> list[GoldenCase]:
    """Return what a graph gives for some inputs; it is closed after it."""
    engine = device.open_file(source)
    return [GoldenCase(inputs, engine.run(**inputs)) for inputs in runs]


def _size(inputs: Inputs) -> int:
    return max(array.size for array in inputs.values())


def _updated(
    manifest: Manifest, networks: Mapping[str, Int8Network], files: Mapping[str, FileRecord]
) -> Manifest:
    stages = {stage: replace(record, int8=None) for stage, record in manifest.stages.items()}
    kept = {n: record for n, record in manifest.files.items() if not n.startswith(f"{FOLDER}/")}
    for stage, network in networks.items():
        graph, weights = f"{FOLDER}/{stage}.onnx", f"{FOLDER}/{stage}.weights"
        record = Int8Record(graph, weights, network.products, len(network.held), network.error)
        stages[stage] = replace(stages[stage], int8=record)
    return replace(manifest, stages=stages, files=kept | dict(files))
