"""Atomic writes: files and folders are complete or absent.

Everything that dossr writes goes through here. Data is written under a name that starts with
``.dossr-``, synced, then renamed. The writer locks that name, so that the next run can recognize and
remove what a killed run left behind.
"""

import atexit
import errno
import os
import re
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
"""Prefix of unfinished files and folders."""

_UNFINISHED = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}(\..*)?", re.DOTALL)
_OLD = "old"  # in a scratch folder: what is to be replaced
_TAKEN = "it was created meanwhile and is not replaced"
_STARTED = time.time()
_LIVE: set[Path] = set()
"""Temporary files of this process. A thread that is ended with the process cannot remove its own."""


def write_whole(path: Path, data: Any, *, replace: bool = True) -> None:
    """Write a buffer so that ``path`` is the old or the complete new file, even if power fails.

    Without ``replace``, raise FileExistsError if ``path`` exists when the data is written. Raise
    OSError if the data cannot be written completely; ``path`` is then unchanged.
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
    """Yield a temporary path to write to; it replaces ``path`` when the block succeeds.

    For libraries that need a path; use ``write_whole`` otherwise.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    temporary = _unused(path.parent, path.suffix)
    _LIVE.add(temporary)
    try:
        with temporary.open("xb") as held:
            _try_lock(held.fileno())
            yield temporary
            os.fsync(held.fileno())
            if sys.platform != "win32":  # Windows cannot rename an open file
                _rename(temporary, path, replace)
        if sys.platform == "win32":
            _rename(temporary, path, replace)
    finally:
        temporary.unlink(missing_ok=True)
        _LIVE.discard(temporary)
    _sync_folder(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces ``path`` when the block succeeds.

    Create missing parents. Remove leftovers of killed runs first, and an existing folder last.
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
                (scratch / _OLD).mkdir()
                path.rename(scratch / _OLD / path.name)
            new.rename(path)
            _sync_folder(path.parent)
    finally:
        _discard(scratch)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder below ``parent``, which is made if missing; remove it after the block.

    Other processes leave it alone; if this one is killed, the next one removes it.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    scratch = _unused(parent, "")
    scratch.mkdir()
    try:
        with _locked_folder(scratch):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(folder: Path, before: float = _STARTED) -> None:
    """Remove unfinished files of killed runs from ``folder``; keep those of live runs.

    ``before``: their latest time, in seconds since the epoch; by default the start of this process.
    """
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):  # removed meanwhile, or no permission
            if not _UNFINISHED.fullmatch(path.name) or not _is_abandoned(path, before):
                continue
            if path.is_dir():
                _discard(path)
            else:
                path.unlink()


def is_unfinished(path: Path) -> bool:
    """Return whether a name belongs to an unfinished write."""
    return _UNFINISHED.fullmatch(path.name) is not None


@atexit.register
def _remove_live() -> None:
    for path in tuple(_LIVE):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _unused(folder: Path, suffix: str) -> Path:
    return folder / f"{PREFIX}{secrets.token_hex(8)}{suffix}"


def _discard(scratch: Path) -> None:
    """Remove a scratch folder. A folder that was moved there to be replaced, and was not, returns."""
    for old in (scratch / _OLD).glob("*"):
        if not (scratch.parent / old.name).exists():
            old.rename(scratch.parent / old.name)
    shutil.rmtree(scratch, ignore_errors=True)


def _rename(temporary: Path, path: Path, replace: bool) -> None:
    """Rename; without ``replace``, create a hard link instead, which fails if the name exists."""
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


def _is_abandoned(path: Path, before: float) -> bool:
    """Return whether a file is older than a time and not locked."""
    if path.lstat().st_mtime >= before:
        return False
    if sys.platform == "win32":  # Windows does not remove open files
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
    """Lock an open file until it is closed; return False if another process holds the lock."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by another process, or no support for locks
        return False
    return True


def _sync(path: Path) -> None:
    if path.is_dir():
        _sync_folder(path)
    else:
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; ignore file systems that cannot sync folders."""
    if sys.platform == "win32":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
