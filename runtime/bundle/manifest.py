"""The content of ``manifest.json``: written by export, read and checked by the runtime."""

import json
import stat
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from ...solvers import NoiseLevels, released_schedule
from ..errors import BundleError
from ..files import write_whole
from ..tensors import LATENT_MULTIPLE, SCALE, TensorSpec
from .placeholders import placeholder

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
FORMAT_VERSION = 2
REQUIRED_STAGES = ("restorer", "encoder", "denoiser", "decoder")
CONDITION = "condition"  # exists only if cond_encoder has its own weights


_LARGEST_MULTIPLE = 128  # the default LR side of a tile
_MOST_STEPS = 499  # of the released schedule; if they can be sampled, fewer can
_LATENT, _TIMES = "latent", "times"
_SIGNATURES: dict[str, tuple[dict[str, int | str], dict[str, int | str]]] = {
    "restorer": ({"lr": 3}, {"restored": 3}),
    "encoder": ({"restored": 3}, {"mean": _LATENT, "std": _LATENT}),
    CONDITION: ({"restored": 3}, {"hint": _LATENT}),
    "denoiser": ({"x": _LATENT, "hint": _LATENT, "time": _TIMES}, {"eps": _LATENT}),
    "decoder": ({"x": _LATENT}, {"image": 3}),
}
"""Inputs and outputs of each stage, with their number of channels."""

_LARGEST_MANIFEST = 1 << 26  # bytes; typical manifests have 100 kB
_Positive = Annotated[int, Meta(gt=0, le=1 << 16)]
Precision = Literal["fp32", "fp16"]
Target = Literal["cpu", "openvino", "cuda", "tensorrt", "tensorrt-10.3"]
TARGETS: tuple[Target, ...] = get_args(Target)
"""What a graph is lowered for: ONNX Runtime on the CPU; OpenVINO; ONNX Runtime on CUDA; TensorRT from
10.14 on and TensorRT-RTX; TensorRT from 10.3 to 10.13."""

_File = Annotated[str, Meta(min_length=1, max_length=255)]
_Text = Annotated[str, Meta(max_length=1 << 16)]


@dataclass(frozen=True)
class ActivationRecord:
    """The largest sum of the intermediate results that a stage holds at once, for one float32 image."""

    side: Annotated[int, Meta(ge=1, le=1 << 16)]
    """Of a square image, in LR pixels."""

    bytes: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Int8Record:
    """A stage in 8-bit integers, for processors; file names are relative to the bundle."""

    graph: _File
    weights: _File
    products: Annotated[int, Meta(ge=1)]
    """Convolutions and matrix products that could be in 8 bits."""

    held: Annotated[int, Meta(ge=0)]
    """How many of them stay in float."""

    error: float
    """The largest relative error of the outputs that was measured when the graph was made."""


@dataclass(frozen=True)
class StageRecord:
    """One network of a bundle; file names are relative to the bundle."""

    graphs: Annotated[dict[Target, _File], Meta(min_length=1)]
    """An ``.onnx`` file for each target; targets with equal graphs share one."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: _File | None = None
    """The external data of all graphs; None: the graphs hold their weights."""

    int8: Int8Record | None = None
    """The stage in 8 bits, if it was exported so."""

    activations: tuple[ActivationRecord, ...] = ()
    """What a run takes at two sizes; none in bundles of earlier versions."""

    @property
    def signature(self) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        """The inputs and the outputs by name."""
        return {s.name: s for s in self.inputs}, {s.name: s for s in self.outputs}

    @property
    def files(self) -> list[str]:
        """Every file of the stage."""
        integers = [self.int8.graph, self.int8.weights] if self.int8 else []
        return [*self.graphs.values(), *([self.weights] if self.weights else []), *integers]


@dataclass(frozen=True)
class GoldenRecord:
    """One run of a stage: the keys in ``golden.npz`` of its inputs and outputs, by tensor name."""

    inputs: dict[str, str]
    outputs: dict[str, str]
    time: Annotated[int, Meta(ge=0)] | None = None
    """The network time, for the denoiser."""


@dataclass(frozen=True)
class FileRecord:
    """Size and hash of one file of a bundle."""

    size: Annotated[int, Meta(ge=0)]
    """In bytes."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``: everything but the networks."""

    toolkit_version: _Text
    checkpoint: _Text
    """File name of the checkpoint."""

    checkpoint_sha256: _Text
    precision: Precision
    """Of the weights, and of the activations on GPUs; inputs and outputs are float32 in both."""

    prompt: _Text
    latent_scale: Annotated[float, Meta(gt=0.0, le=1e6)]
    latent_channels: _Positive
    vae_factor: _Positive
    """The factor by which the VAE reduces an image's sides."""

    size_multiple: _Positive
    """LR sides are padded to a multiple of this."""

    schedule: NoiseLevels
    model: dict[str, Any]
    """The networks' configuration, for information."""

    stages: dict[str, StageRecord]
    files: dict[Annotated[str, Meta(max_length=255)], FileRecord]
    """By path relative to the bundle."""

    golden: dict[str, list[GoldenRecord]] = field(default_factory=dict)
    """Inputs and torch's outputs of each stage."""

    verification: list[dict[str, Any]] = field(default_factory=list)
    """One row per stage, target, output, time and shape: the relative error against torch."""

    @property
    def targets(self) -> list[Target]:
        """The targets for which every stage has a graph."""
        return [t for t in TARGETS if all(t in s.graphs for s in self.stages.values())]

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        document = {"format_version": FORMAT_VERSION, **asdict(self)}
        text = json.dumps(document, indent=1, ensure_ascii=False)
        write_whole(folder / MANIFEST, f"{text}\n".encode())


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``. Raise BundleError, naming the field, if it is invalid."""
    document = _read_json(path)
    version = document.pop("format_version", None) if isinstance(document, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleError(
            f"{path} must have format_version {FORMAT_VERSION}, got {version!r:.40}; "
            "export the checkpoint again with this version of dossr"
        )
    try:
        manifest = msgspec.convert(document, Manifest)
        _check_schedule(document["schedule"])
    except (ValueError, msgspec.ValidationError) as error:
        raise BundleError(f"{path} is damaged: {error}; export the checkpoint again") from error
    missing = [name for name in REQUIRED_STAGES if name not in manifest.stages]
    needed = [name for stage in manifest.stages.values() for name in stage.files]
    needed += [GOLDEN] if any(manifest.golden.values()) else []
    unlisted = [name for name in needed if name not in manifest.files]
    if missing or unlisted:
        what = f"stage '{missing[0]}'" if missing else f"the SHA-256 of '{unlisted[0]}'"
        raise BundleError(f"{path} lacks {what}; export the checkpoint again")
    try:
        _check_stages(manifest)
        _check_golden(manifest)
        _check_sizes(manifest)
        released_schedule(_MOST_STEPS, manifest.schedule)
    except ValueError as error:
        raise BundleError(f"{path} is damaged: {error}; export the checkpoint again") from error
    return manifest


def _read_json(path: Path) -> Any:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would block
            raise BundleError(f"{path} must be a regular file")
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise BundleError(f"{path} must be a manifest, got {path.stat().st_size} bytes")
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent} is not a bundle: it has no {path.name}; create one with dossr-export"
        ) from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        found = placeholder(path) or "export the checkpoint again"
        raise BundleError(f"{path} is damaged: {error}; {found}") from error


def _check_schedule(document: dict[str, Any]) -> None:
    """Raise ValueError if a field of the schedule is missing, which would become its default."""
    names = {field.name for field in fields(NoiseLevels)}
    if document.keys() != names:
        raise ValueError(f"schedule must have {sorted(names)}, got {sorted(document)}")


def _check_stages(manifest: Manifest) -> None:
    """Raise ValueError if the inputs or outputs of a stage are not those that the pipeline uses."""
    for name, record in manifest.stages.items():
        if name not in _SIGNATURES:
            raise ValueError(f"stage must be one of {', '.join(_SIGNATURES)}, got '{name:.40}'")
        for wanted, specs in zip(_SIGNATURES[name], (record.inputs, record.outputs), strict=True):
            found = {spec.name: _channels(spec) for spec in specs}
            expected = {
                key: manifest.latent_channels if channels == _LATENT else channels
                for key, channels in wanted.items()
            }
            if found != expected or len(specs) != len(wanted):
                raise ValueError(
                    f"stage '{name}' must have {expected} (channels by name, float32), "
                    f"got {found!s:.200}"
                )


def _check_golden(manifest: Manifest) -> None:
    """Raise ValueError if the golden vectors are not for the stages' inputs and outputs."""
    for stage, records in manifest.golden.items():
        if stage not in manifest.stages:
            raise ValueError(f"golden must be of a stage, got '{stage:.40}'")
        specs = manifest.stages[stage]
        wanted = {spec.name for spec in specs.inputs}, {spec.name for spec in specs.outputs}
        if any((set(record.inputs), set(record.outputs)) != wanted for record in records):
            raise ValueError(f"golden of '{stage}' must name each of its inputs and outputs")


def _channels(spec: TensorSpec) -> int | str:
    """Return the channels of a tensor (batch, channels, height, width), or its deviation from that."""
    if spec.dtype != "float32":
        return spec.dtype
    if len(spec.shape) == 1:
        return _TIMES
    return spec.shape[1] if len(spec.shape) == 4 else f"{len(spec.shape)} axes"


def _check_sizes(manifest: Manifest) -> None:
    """Raise ValueError if padded images would have latents of unsupported size."""
    factor, multiple = manifest.vae_factor, manifest.size_multiple
    if factor & (factor - 1):
        raise ValueError(f"vae_factor must be a power of two, got {factor}")
    if multiple * SCALE % (LATENT_MULTIPLE * factor) or _LARGEST_MULTIPLE % multiple:
        raise ValueError(
            f"size_multiple must divide {_LARGEST_MULTIPLE} and give latent sides that are multiples of "
            f"{LATENT_MULTIPLE} with vae_factor {factor}, got {multiple}"
        )
