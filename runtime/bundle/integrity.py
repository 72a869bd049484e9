"""Opens a bundle whose files are present and unchanged."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import BundleError
from .golden import GoldenCase, read_golden
from .linked import folder_within
from .manifest import GOLDEN, MANIFEST, FileRecord, Manifest, Target, read_manifest
from .placeholders import placeholder
from .verified import VerifiedFiles

DEMO = Path(__file__).parents[1] / "demo"
"""The built-in bundle: a small model, trained by ``dossr.export.demo_training``."""

_APPLE_DOUBLE = "._"
"""Begins the name of the file in which macOS puts another's attributes on exFAT and network drives."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are present and unchanged."""

    folder: Path
    manifest: Manifest
    linked: Path | None = None
    """Where engines read the files if they are links out of ``folder``; it ends with the process."""

    unlinkable: str | None = None
    """Why there is no such folder although they are links."""

    @property
    def readable(self) -> Path:
        """The folder from which engines read graphs and weights."""
        return self.linked or self.folder

    def path(self, stage: str, target: Target) -> Path:
        """Return the graph of a stage for a target, beside its weights.

        Raise BundleError if there is none, or if its engine does not follow the links of this bundle.
        """
        graphs = self.manifest.stages[stage].graphs
        if target not in graphs:
            raise BundleError(
                f"bundle {self.folder} has graphs for {', '.join(graphs)}, and this device needs "
                f"{target}; export the checkpoint again with --target {target}"
            )
        if self.unlinkable and target == "openvino":
            raise BundleError(
                f"OpenVINO reads no files that are links out of {self.folder}, and they cannot be linked "
                f"anew ({self.unlinkable}); copy the bundle with cp -rL, or use --device cpu"
            )
        return self.readable / graphs[target]

    def hashes(self, stage: str, target: Target) -> dict[str, str]:
        """Return the SHA-256 of a stage's graph and weights, by file name."""
        record = self.manifest.stages[stage]
        self.path(stage, target)  # raises where there is no such graph
        names = [record.graphs[target], *([record.weights] if record.weights else [])]
        return {name: self.manifest.files[name].sha256 for name in names}

    def check(self, stage: str, target: Target) -> None:
        """Raise BundleError if a stage's graph or weights changed since the bundle was opened."""
        root = self.folder.resolve()
        verified = VerifiedFiles(root)
        for name in self.hashes(stage, target):
            _check_file(root / name, self.manifest.files[name], verified, again=False)

    def golden(self, stage: str) -> list[GoldenCase]:
        """Return real inputs and torch's outputs of a stage; empty if the bundle has none."""
        return read_golden(self.folder / GOLDEN, self.manifest, stage)


def open_bundle(folder: Path, *, again: bool = False) -> Bundle:
    """Read a bundle and check each file's path, size and SHA-256. Raise BundleError if one fails.

    Large files that did not change since they were last hashed are hashed only if ``again`` is true.
    """
    manifest = read_manifest(folder / MANIFEST)
    try:
        root = folder.resolve()
        verified = VerifiedFiles(root)
        for name, record in manifest.files.items():
            _check_name(root, name)
            _check_file(root / name, record, verified, again)
        unlisted = {path.name for path in root.glob("*.onnx*")}
        unlisted |= {path.name for path in root.glob("*.weights")}
        unlisted -= {*manifest.files, *(f"{_APPLE_DOUBLE}{name}" for name in manifest.files)}
    except BundleError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise BundleError(f"a file of bundle {folder} cannot be read: {error}") from error
    if unlisted:
        raise BundleError(
            f"bundle file {root / min(unlisted)} is not in the manifest; export the bundle again"
        )
    try:
        within = folder_within(root, manifest.files)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        reason = error.strerror if isinstance(error, OSError) else None
        return Bundle(folder, manifest, unlinkable=reason or str(error))
    return Bundle(folder, manifest, None if within == root else within)


def sha256(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file; ``advance`` is called with the size of each part read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
            if advance:
                advance(len(chunk))
    return digest.hexdigest()


def _check_name(root: Path, name: str) -> None:
    """Raise BundleError if a name leaves the folder. A link may: the hash is that of its target."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name:
        raise BundleError(f"bundle file '{name}' must lie inside {root}")


def _check_file(path: Path, record: FileRecord, verified: VerifiedFiles, again: bool) -> None:
    if not path.is_file():
        what = f"is a link to {os.readlink(path)}, which is" if path.is_symlink() else "is"  # noqa: PTH115 - as written
        raise BundleError(f"bundle file {path} {what} missing; copy or export the bundle again")
    if path.stat().st_size != record.size:
        raise BundleError(
            f"bundle file {path} must have {record.size} bytes, got {path.stat().st_size}; "
            + (placeholder(path) or "copy or export the bundle again")
        )
    if not again and verified.has(path, record.sha256):
        return
    if sha256(path) != record.sha256:
        raise BundleError(
            f"bundle file {path} was changed: its SHA-256 does not match the manifest; "
            "copy or export the bundle again"
        )
    verified.add(path, record.sha256)
