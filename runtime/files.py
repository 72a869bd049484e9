"""Files and folders that are whole or absent: written under another name, synced, then renamed.

Everything that dossr writes goes through here. A name that starts with ``.dossr-`` belongs to a
write in progress; the writer holds a lock on it, so that the next run can tell what a killed one
left behind and remove it.
"""

import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

PREFIX = ".dossr-"
"""How the names of unfinished files and folders begin."""

_TAKEN = "it was created meanwhile and is not replaced"
_STARTED = time.time()


def write_whole(path: Path, data: Any, *, replace: bool = True) -> None:
    """Write a buffer so that ``path`` is the old file or the whole new one, even if power fails.

    Without ``replace``, raise FileExistsError where ``path`` exists by the time the data is
    written. Raise OSError where it cannot be written in full; ``path`` is then as it was.
    """
    view = memoryview(data).cast("B")
    with whole_file(path, replace=replace) as temporary:
        with temporary.open("wb") as file:
            file.write(view)
        size = temporary.stat().st_size
        if size != view.nbytes:
            raise OSError(errno.EIO, f"{size} of {view.nbytes} bytes were written", str(path))


@contextmanager
def whole_file(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield the path to write to; when the block succeeds, it takes the place of ``path``.

    For libraries that insist on a path; ``write_whole`` is for everything else.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    temporary = _unused(path.parent, path.suffix)
    try:
        with temporary.open("xb") as held:
            _try_lock(held.fileno())
            yield temporary
            os.fsync(held.fileno())
            if sys.platform != "win32":  # there, an open file cannot be renamed
                _rename(temporary, path, replace)
        if sys.platform == "win32":
            _rename(temporary, path, replace)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; when the block succeeds, it takes the place of ``path``.

    Parents are made if need be. A folder that stands there is removed after the new one has its
    name. Leftovers of killed runs beside it are removed first.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    remove_leftovers(parent)
    scratch = _unused(parent, "")
    scratch.mkdir()
    try:
        with _locked_folder(scratch):
            new = scratch / "new"
            new.mkdir()
            yield new
            for file in new.rglob("*"):
                _sync(file)
            _sync(new)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.rename(scratch / "old")
            new.rename(path)
            _sync_folder(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left unfinished in ``folder``; what a live one writes stays."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):  # gone meanwhile, or not ours to remove
            if not _is_abandoned(path):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def is_unfinished(path: Path) -> bool:
    """Whether a name belongs to a write in progress, or to what is left of one."""
    return path.name.startswith(PREFIX)


def _unused(folder: Path, suffix: str) -> Path:
    return folder / f"{PREFIX}{secrets.token_hex(8)}{suffix}"


def _rename(temporary: Path, path: Path, replace: bool) -> None:
    """Rename; without ``replace`` a hard link, which fails where the name is taken, goes first."""
    if replace:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, _TAKEN, str(path)) from error
    except OSError as error:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, _TAKEN, str(path)) from error
        temporary.rename(path)


def _is_abandoned(path: Path) -> bool:
    """Older than this process, and locked by nobody."""
    if path.lstat().st_mtime >= _STARTED:
        return False
    if sys.platform == "win32":  # nobody removes a file there that another holds open
        return path.is_file()
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return _try_lock(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _try_lock(handle)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    """Lock an open file for as long as it is open; False where another process holds it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        return False
    return True


def _sync(path: Path) -> None:
    if path.is_dir():
        _sync_folder(path)
    else:
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename last; where a folder cannot be synced, the file system sees to it itself."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
