"""The bundle: a folder with ``manifest.json`` and one ``.onnx`` file per stage.

Export writes it and the runtime reads it; this file is all that they share about it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..solvers import NoiseLevels
from .engine import TensorSpec

MANIFEST = "manifest.json"
DEMO = Path(__file__).parent / "demo"
"""The bundle that is built in: a small model, trained by ``dossr.export.demo``."""

FORMAT_VERSION = 1
REQUIRED_STAGES = ("restorer", "encoder", "denoiser", "decoder")
CONDITION = "condition"  # the stage that exists only where cond_encoder has weights of its own


class BundleError(ValueError):
    """The folder is not a bundle that this version can run, or it was changed."""


@dataclass(frozen=True)
class StageRecord:
    """One network of a bundle."""

    file: str
    """The ``.onnx`` file, relative to the bundle; external data lies beside it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class FileRecord:
    """What a file of the bundle must be."""

    size: int
    """In bytes."""

    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything about a bundle but the networks themselves."""

    toolkit_version: str
    checkpoint: str
    """File name of the checkpoint."""

    checkpoint_sha256: str
    precision: str
    """fp32 or fp16: of weights and activations; the seams are float32 in both."""

    opset: int
    prompt: str
    latent_scale: float
    latent_channels: int
    vae_factor: int
    """How many times smaller a latent's sides are than the picture's."""

    size_multiple: int
    """LR sides are padded to a multiple of this."""

    schedule: NoiseLevels
    model: dict[str, Any]
    """The networks' configuration, for the record."""

    stages: dict[str, StageRecord]
    files: dict[str, FileRecord]
    """By path relative to the bundle."""

    verification: list[dict[str, Any]] = field(default_factory=list)
    """One row per stage, output, time and shape: the relative error against torch."""

    def write(self, folder: Path) -> None:
        """Write ``manifest.json``."""
        document = {"format_version": FORMAT_VERSION, **asdict(self)}
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are there and unchanged."""

    folder: Path
    manifest: Manifest

    def path(self, stage: str) -> Path:
        """The ``.onnx`` file of a stage."""
        return self.folder / self.manifest.stages[stage].file


def open_bundle(folder: Path) -> Bundle:
    """Read a bundle and check every file's place, size and SHA-256. Raises BundleError."""
    bundle = Bundle(folder, read_manifest(folder / MANIFEST))
    root = folder.resolve()
    try:
        for name, record in bundle.manifest.files.items():
            _check_inside(root, name)
            _check_file(root / name, record)
        unlisted = {path.name for path in root.glob("*.onnx*")} - bundle.manifest.files.keys()
    except BundleError:
        raise
    except (OSError, ValueError) as error:
        raise BundleError(f"a file of bundle {folder} cannot be read: {error}") from error
    if unlisted:
        raise BundleError(
            f"bundle file {root / min(unlisted)} is not in the manifest; export the bundle again"
        )
    return bundle


def read_manifest(path: Path) -> Manifest:
    """Read a ``manifest.json``. Raises BundleError in one line that names the fault."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent} is no bundle: it has no {path.name}; make one with dossr-export"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    version = document.get("format_version") if isinstance(document, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleError(
            f"{path} must have format_version {FORMAT_VERSION}, got {version!r}; "
            "export the checkpoint again with this version of dossr"
        )
    try:
        manifest = _parse(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BundleError(f"{path} is damaged: {error!r}; export the checkpoint again") from error
    missing = [name for name in REQUIRED_STAGES if name not in manifest.stages]
    unlisted = [s.file for s in manifest.stages.values() if s.file not in manifest.files]
    if missing or unlisted:
        what = f"stage '{missing[0]}'" if missing else f"the SHA-256 of '{unlisted[0]}'"
        raise BundleError(f"{path} lacks {what}; export the checkpoint again")
    return manifest


def sha256(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file; ``advance`` is called with the number of bytes of each part read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
            if advance:
                advance(len(chunk))
    return digest.hexdigest()


def _parse(document: Mapping[str, Any]) -> Manifest:
    return Manifest(
        toolkit_version=str(document["toolkit_version"]),
        checkpoint=str(document["checkpoint"]),
        checkpoint_sha256=str(document["checkpoint_sha256"]),
        precision=str(document["precision"]),
        opset=int(document["opset"]),
        prompt=str(document["prompt"]),
        latent_scale=float(document["latent_scale"]),
        latent_channels=_positive(document, "latent_channels"),
        vae_factor=_positive(document, "vae_factor"),
        size_multiple=_positive(document, "size_multiple"),
        schedule=NoiseLevels(**document["schedule"]),
        model=dict(document["model"]),
        stages={
            name: StageRecord(str(s["file"]), _specs(s["inputs"]), _specs(s["outputs"]))
            for name, s in document["stages"].items()
        },
        files={
            name: FileRecord(int(f["size"]), str(f["sha256"]))
            for name, f in document["files"].items()
        },
        verification=list(document["verification"]),
    )


def _positive(document: Mapping[str, Any], name: str) -> int:
    value = document[name]
    if type(value) is not int or not 1 <= value <= 1 << 16:
        raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
    return value


def _specs(specs: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(s["name"], s["dtype"], tuple(s["shape"])) for s in specs)


def _check_inside(root: Path, name: str) -> None:
    pure = PurePosixPath(name)
    inside = (root / name).resolve().is_relative_to(root)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or not inside:
        raise BundleError(f"bundle file '{name}' must lie inside {root}")


def _check_file(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        raise BundleError(f"bundle file {path} is missing; copy or export the bundle again")
    if path.stat().st_size != record.size:
        raise BundleError(
            f"bundle file {path} must have {record.size} bytes, got {path.stat().st_size}; "
            "copy or export the bundle again"
        )
    if sha256(path) != record.sha256:
        raise BundleError(
            f"bundle file {path} was changed: its SHA-256 is not the manifest's; "
            "copy or export the bundle again"
        )
