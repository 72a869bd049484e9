"""Files whose SHA-256 was computed before and that have not changed since.

Hashing the weights of the official model takes seconds at every start. A large file that was hashed
once is trusted while its path, size, times of modification and change, and inode stay the same. The time of
change is left out for a file that is linked into the folder: the hard links that each process makes to it and
removes, to read it (``folder_within``), change that time. The records lie in the user's cache folder, not in the
bundle, so that a copied bundle is hashed on its new machine.
"""

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from ..files import write_whole

LEAST = 16 << 20  # bytes; smaller files are hashed every time

_Stamp = tuple[int, int, int, int]
"""Size, times of modification and change in nanoseconds (the latter 0 behind a link), inode."""


class VerifiedFiles:
    """The files of one folder that are known to match their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:32]
        self._path: Path | None = None
        self._known: dict[str, tuple[str, _Stamp]] = {}
        with suppress(OSError, ValueError, RuntimeError, msgspec.MsgspecError):  # or no home folder
            self._path = cache_folder() / "verified" / f"{name}.json"
            known = msgspec.json.decode(self._path.read_bytes(), type=dict[str, tuple[str, _Stamp]])
            self._known = known

    def has(self, path: Path, sha256: str) -> bool:
        """Return whether a file of the folder had this SHA-256 and is unchanged."""
        return self._known.get(self._name(path)) == (sha256, self._stamp(path))

    def add(self, path: Path, sha256: str) -> None:
        """Record that a file of the folder has this SHA-256."""
        stamp = self._stamp(path)
        if stamp[0] < LEAST or self._path is None:
            return
        self._known[self._name(path)] = (sha256, stamp)
        with suppress(OSError):  # the record only saves time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(self._known))

    def _stamp(self, path: Path) -> _Stamp:
        found = path.stat()
        is_linked = not path.resolve().is_relative_to(self._folder)
        changed = 0 if is_linked else found.st_ctime_ns
        return found.st_size, found.st_mtime_ns, changed, found.st_ino

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def cache_folder() -> Path:
    """Return the user's cache folder of dossr. Raise RuntimeError if there is no home folder."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "dossr"
