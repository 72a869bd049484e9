"""Compiled models on disk, so that the next start imports them instead of compiling.

They lie in the user's cache folder. A file begins with the SHA-256 of the rest: one that was cut or
changed is compiled again and never imported. Its name is the hash of everything that it depends on.
Weights stay in the bundle, from which OpenVINO maps them again. A blob is trusted like a program.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from ...bundle.verified import cache_folder
from ...files import remove_leftovers, write_whole

LARGEST = 256 << 20
"""Bytes of one blob. Those without weights take a hundredth of the network; others are kept up to this size."""

KEPT = 1 << 30
"""Bytes of all blobs; the oldest are removed first."""

_DIGEST = 32  # bytes of a SHA-256
_SUFFIX = ".blob"


@dataclass(frozen=True)
class BlobKey:
    """Everything that a compiled model depends on."""

    files: Mapping[str, str]
    """SHA-256 of the graph and of its weights, by name."""

    toolkit: str
    """dossr's version, which decides how a graph is read."""

    version: str
    """OpenVINO's version."""

    processor: str
    capabilities: tuple[str, ...]
    cores: int
    precision: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        """Its name on disk, without a suffix."""
        return hashlib.sha256(msgspec.json.encode(asdict(self), order="sorted")).hexdigest()[:32]


class BlobCache:
    """The blobs of this user. Works without a folder, and tells so once."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._is_told = False
        self._folder: Path | None = None
        with suppress(RuntimeError):  # no home folder
            self._folder = cache_folder() / "openvino"

    def read(self, key: BlobKey) -> bytes | None:
        """Return a blob; None if there is none or it was damaged."""
        if self._folder is None:
            return None
        try:
            content = (self._folder / f"{key.name}{_SUFFIX}").read_bytes()
        except OSError:
            return None
        blob = content[_DIGEST:]
        return blob if hashlib.sha256(blob).digest() == content[:_DIGEST] else None

    def write(self, key: BlobKey, blob: bytes) -> None:
        """Keep a blob, whole or not at all; tell once if that is impossible."""
        if self._folder is None or len(blob) > LARGEST:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._folder)
            path = self._folder / f"{key.name}{_SUFFIX}"
            write_whole(path, hashlib.sha256(blob).digest() + blob)
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                self._log(
                    f"compiled networks cannot be kept in {self._folder} "
                    f"({error.strerror or error}); every start compiles them again"
                )
            return
        self._remove_oldest(path)

    def _remove_oldest(self, newest: Path) -> None:
        assert self._folder is not None
        with suppress(OSError):  # another process removes as well
            blobs = [(path, path.stat()) for path in self._folder.glob(f"*{_SUFFIX}")]
            blobs.sort(key=lambda item: item[1].st_mtime_ns, reverse=True)
            size = 0
            for path, status in blobs:
                size += status.st_size
                if size > KEPT and path != newest:
                    path.unlink(missing_ok=True)
