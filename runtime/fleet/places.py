"""Files on disks and in object stores, by path or by URI, through pyarrow and fsspec."""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from ..cli.arguments import is_uri
from ..errors import one_line, reason
from ..files import PREFIX, write_whole

_AWS = re.compile(r"AWS Error ([A-Z][A-Z_]+)")
_CREDENTIALS = ("access_denied", "invalid_access_key_id", "signature_does_not_match")
_AZURE = ("abfs", "abfss")
_BUCKETS = ("s3", "gs", "gcs", *_AZURE)  # schemes whose hosts have no ports
_WHOLE = ("s3", "gcs", "abfs")  # stores in which an object appears when it is complete
_FAILURES = (
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)  # pyarrow's errors are of these


class PlaceError(OSError):
    """A place cannot be read or written; the message is one line and names it."""


@dataclass(frozen=True)
class Place:
    """A file or folder. Can be pickled: the file system goes with it."""

    system: fs.FileSystem
    path: str
    """As the file system has it, such as ``bucket/photos/a.png``."""

    name: str
    """As messages and manifests show it: the URI without credentials and options, or the path.

    Different places may have the same one.
    """

    @property
    def identity(self) -> tuple[int, str]:
        """The same for all places of this process that are one file."""
        return 0 if self.is_local else id(self.system), self.path

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of the machine that asks."""
        return isinstance(self.system, fs.LocalFileSystem)

    def below(self, relative: str) -> "Place":
        """Return what lies below this folder."""
        if not relative:
            return self
        path, name = self.path.rstrip("/"), self.name.rstrip("/")
        return Place(self.system, f"{path}/{relative}", f"{name}/{relative}")

    def contains(self, other: "Place") -> bool:
        """Return whether another place lies below this folder."""
        (system, folder), (own, path) = self.identity, other.identity
        return system == own and path.startswith(f"{folder.rstrip('/')}/")

    def kind(self) -> str:
        """Return file, folder, or nothing where there is neither."""
        with _telling(self.name, "read"):
            found = self.system.get_file_info(self.path).type
        return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(found, "")

    def files(self) -> Iterator[str]:
        """Yield the paths of all files below this folder, relative to it, sorted."""
        root = self.path.rstrip("/")
        selector = fs.FileSelector(root, recursive=True, allow_not_found=True)
        with _telling(self.name, "listed"):
            found = self.system.get_file_info(selector)
        yield from sorted(
            info.path[len(root) + 1 :] for info in found if info.type == fs.FileType.File
        )

    def read(self, most: int) -> bytes:
        """Return the content, at most ``most`` bytes and one more."""
        with _telling(self.name, "read"), self.system.open_input_file(self.path) as file:
            return bytes(file.read(most + 1))

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the content in parts."""
        with _telling(self.name, "read"), self.system.open_input_stream(self.path) as file:
            while chunk := bytes(file.read(size)):
                yield chunk

    def write(self, data: Any) -> None:
        """Write a buffer whole or not at all; create folders that are missing."""
        with _telling(self.name, "written"):
            if self.is_local:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                write_whole(Path(self.path), data)
            elif self.system.type_name in _WHOLE:
                self._put(self.path, data)
            else:
                self._write_beside(data)

    def _write_beside(self, data: Any) -> None:
        """Write another file and rename it, where readers could see a file that is not complete."""
        folder = self.path.rpartition("/")[0]
        self.system.create_dir(folder, recursive=True)
        beside = f"{folder}/{PREFIX}{secrets.token_hex(8)}"
        self._put(beside, data)
        self.system.move(beside, self.path)

    def _put(self, path: str, data: Any) -> None:
        """Write a file; remove it if a part is missing."""
        with self.system.open_output_stream(path) as file:
            file.write(data)
        size = self.system.get_file_info(path).size
        if size != memoryview(data).nbytes:
            self.system.delete_file(path)
            raise OSError(f"{size} of {memoryview(data).nbytes} bytes were written")


def find_place(text: str) -> Place:
    """Return the place of a path or URI; raise PlaceError if its file system is unknown."""
    if not is_uri(text):
        return Place(fs.LocalFileSystem(), os.path.abspath(text), text)  # noqa: PTH100 - keeps a link's ".."
    parts = _parts(text)
    if parts.scheme == "file":
        path = unquote(parts.path).rstrip("/") or "/"
        return Place(fs.LocalFileSystem(), path, path)
    name = f"{parts.scheme}://{_shown(parts)}{parts.path}"
    query = f"?{parts.query}" if parts.query else ""
    with _telling(name, "opened"):
        found = _arrow_system(f"{parts.scheme}://{parts.netloc}{query}")
        if found is not None:
            system, root = found
            return Place(system, f"{root}{parts.path}".rstrip("/"), name)
        return Place(*_of_fsspec(text), name)


def _parts(text: str) -> SplitResult:
    """Return the parts of a URI; raise PlaceError, without its credentials, for one that is malformed."""
    with _telling("a URI", "understood"):
        parts = urlsplit(text, allow_fragments=False)
    port = parts.netloc.rpartition(":")[2]
    is_cut = ":" in parts.netloc and (parts.scheme in _BUCKETS or not port.isdecimal())
    if is_cut and "@" in text and "@" not in parts.netloc:
        scheme, end = parts.scheme, text.rpartition("@")[2]
        raise PlaceError(
            f"the credentials of {scheme}://...@{end.partition('?')[0]} cannot hold / or ?; "
            "write them as %2F and %3F"
        )
    return parts


def _shown(parts: SplitResult) -> str:
    """Return the host or bucket without credentials; that of Azure keeps its container."""
    before, _, host = parts.netloc.rpartition("@")
    container = before.partition(":")[0] if parts.scheme in _AZURE else ""
    return f"{container}@{host}" if container else host


@cache
def _arrow_system(root: str) -> tuple[fs.FileSystem, str] | None:
    """Return pyarrow's file system of a bucket or host and the path of its root, if pyarrow has one."""
    try:
        system, path = fs.FileSystem.from_uri(root)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if "nrecognized filesystem type" in str(error) or isinstance(error, NotImplementedError):
            return None
        raise
    return system, path.rstrip("/")


def _of_fsspec(text: str) -> tuple[fs.FileSystem, str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(text)
    except ImportError as error:
        raise OSError(reason(error)) from error
    return _wrapped(system), path


@cache
def _wrapped(system: Any) -> fs.FileSystem:
    return fs.PyFileSystem(fs.FSSpecHandler(system))


@contextmanager
def _telling(name: str, what: str) -> Iterator[None]:
    """Convert what a file system raises in the block to a PlaceError of one line."""
    try:
        yield
    except PlaceError:
        raise
    except _FAILURES as error:
        raise PlaceError(one_line(f"{name} cannot be {what}: {_why(error)}")) from error


def _why(error: BaseException) -> str:
    """Return what a store says: the name of an AWS error in words, else its message."""
    found = _AWS.search(str(error))
    if not found or found[1] == "UNKNOWN":
        text = getattr(error, "strerror", None) or str(error)
        return reason(OSError(_without_secrets(str(text)).split(". Detail:")[0]))
    name = found[1].lower()
    if name == "network_connection":
        return "the store does not answer"
    words = name.replace("_", " ")
    return f"{words}; check the credentials" if name in _CREDENTIALS else words


def _without_secrets(text: str) -> str:
    """Return a message without what stands before the @ and after the ? of the URI in it."""
    return re.sub(
        r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1", re.sub(r"://.*@", "://", text, flags=re.DOTALL)
    )
