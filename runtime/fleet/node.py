"""The bundle on a node: where it is, or fetched once for all workers of the node."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from ... import __version__
from ..bundle import DEMO, MANIFEST, Manifest, open_bundle, read_manifest
from ..bundle.verified import cache_folder
from ..engines.tensorrt.library import LIBRARIES
from ..engines.tensorrt.profiles import ENGINES
from ..errors import BundleError
from ..files import whole_file, whole_folder, write_whole
from .places import Place, PlaceError, find_place

_LARGEST_MANIFEST = 1 << 26  # bytes
_CHUNK = 1 << 24


class _Record(msgspec.Struct):
    """What matters here of an engine's record."""

    sha256: str


@dataclass(frozen=True)
class BundleSource:
    """A bundle as a run names it, and what its manifest was when the run began."""

    place: Place | None
    """None: the built-in demo model."""

    sha256: str
    """Of ``manifest.json``, which holds the hashes of all other files."""

    has_engines: bool = False
    """Whether engines that were built for it are fetched with it."""

    def on_this_node(self) -> Path:
        """Return a folder of this node with the bundle; fetch it if another worker has not.

        Raise BundleError if the bundle is missing here, is another one, or cannot be fetched.
        """
        if self.place is None:
            self._check(DEMO)
            return DEMO
        if self.place.is_local:
            folder = Path(self.place.path)
            read_manifest(folder / MANIFEST)  # the error of a folder that is no bundle
            self._check(folder)
            return folder
        try:
            return self._fetched(self.place)
        except OSError as error:
            raise BundleError(f"bundle {self.place.name} cannot be fetched: {error}") from error

    def _check(self, folder: Path) -> None:
        if hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() != self.sha256:
            raise BundleError(
                f"bundle {folder} is another one than where the run was started; copy it again, or use "
                "a URI or a shared disk"
            )

    def _fetched(self, place: Place) -> Path:
        """Return the bundle in this node's cache. Workers of a node wait for the one that fetches it."""
        folder = cache_folder() / "bundles" / self.sha256
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                with whole_folder(folder) as new:
                    _fetch(place, new)
                    self._check(new)
            if self.has_engines:
                with suppress(Exception):  # of any store; the bundle is complete without engines
                    _fetch_engines(place.below(ENGINES), folder / ENGINES)
        return folder


def find_bundle(text: str | None, device: str = "cpu") -> tuple[BundleSource, Manifest]:
    """Return a bundle for a device by its path or URI (None: the demo model), and its manifest.

    Raise BundleError if there is none.
    """
    place = None if text is None else find_place(text)
    try:
        with _manifest_file(place) as path:
            manifest = read_manifest(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except PlaceError as error:
        raise BundleError(str(error)) from error
    return BundleSource(place, digest, device in ("auto", *LIBRARIES)), manifest


def prepare(source: BundleSource) -> tuple[str, str]:
    """Make a bundle ready on this node; return what is wrong, empty if nothing is, and dossr's version.

    Hashes every file once.
    """
    try:
        open_bundle(source.on_this_node())
    except (BundleError, OSError, RuntimeError) as error:  # RuntimeError: no home folder
        return str(error), __version__
    return "", __version__


@contextmanager
def _manifest_file(place: Place | None) -> Iterator[Path]:
    if place is None or place.is_local:
        yield (DEMO if place is None else Path(place.path)) / MANIFEST
        return
    with tempfile.TemporaryDirectory(prefix="dossr-") as folder:
        path = Path(folder) / MANIFEST
        path.write_bytes(place.below(MANIFEST).read(_LARGEST_MANIFEST))
        yield path


def _fetch(place: Place, folder: Path) -> None:
    """Copy a bundle's files; raise BundleError for one that is not what the manifest says."""
    (folder / MANIFEST).write_bytes(place.below(MANIFEST).read(_LARGEST_MANIFEST))
    for name, record in read_manifest(folder / MANIFEST).files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise BundleError(f"bundle file '{name}' must lie inside {place.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if _copied(place.below(name), path) != record.sha256:
            raise BundleError(
                f"{place.name}/{name} was changed: its SHA-256 does not match the manifest"
            )


def _fetch_engines(place: Place, folder: Path) -> None:
    """Copy the engines that are not there, or that were copied and have changed; what was built here stays.

    An engine is copied before its record, and the mark of a copied one, its SHA-256, comes last: what an
    interrupted copy leaves is copied again.
    """
    names = set(place.files())
    for name in sorted(names):
        record, engine = folder / name, folder / Path(name).with_suffix(".engine")
        if record.parent != folder or record.suffix != ".json" or engine.name not in names:
            continue
        data, mark = place.below(name).read(_LARGEST_MANIFEST), folder / f"{name}.fetched"
        copied = _recorded(data)
        if engine.is_file() and record.is_file():
            here = _recorded(record.read_bytes())
            is_copied = mark.is_file() and mark.read_bytes() == here
            if not is_copied or here == copied:
                continue
        folder.mkdir(exist_ok=True)
        with whole_file(engine) as new:
            _copied(place.below(engine.name), new)
        write_whole(record, data)
        write_whole(mark, copied)


def _recorded(record: bytes) -> bytes:
    """Return the SHA-256 of an engine by its record, whose other lines change with use; empty if it has none."""
    try:
        return msgspec.json.decode(record, type=_Record).sha256.encode()
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return b""


def _copied(source: Place, path: Path) -> str:
    """Copy a file in parts and return its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in source.chunks(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()
