"""The cache of built engines: their keys on disk, one builder at a time.

An engine is executable code for one kind of GPU and one version of its library. Beside
``name.engine`` lies ``name.json`` with its key. An engine is used only if its key fits and the plan
is unchanged. A plan is trusted like a program: copy plans from trusted machines only.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from filelock import FileLock, Timeout
from msgspec import Meta

from ...bundle import sha256
from ...errors import EngineError
from ...files import remove_leftovers, write_whole
from ...terminal import log as log_to_terminal
from .profiles import Profile, Shape, contains, is_fixed
from .support import numbers

ANY_GPU = "any"
AMPERE_OR_NEWER = "8.0 or newer"
_AMPERE = (8, 0)


@dataclass(frozen=True)
class EngineKey:
    """Everything that a built engine depends on. The driver is none of it."""

    files: Mapping[str, str]
    """SHA-256 of the ``.onnx`` file and of its weights, by name."""

    library: str
    version: str
    gpu: str
    """The GPU's name, or ANY_GPU."""

    capabilities: tuple[str, ...]
    """Compute capabilities such as 8.9, or AMPERE_OR_NEWER alone."""

    profile: Profile
    flags: tuple[str, ...]
    """Builder settings such as level=3, sorted."""


@dataclass(frozen=True)
class _Record:
    """The content of ``name.json``."""

    format_version: Literal[2]
    key: EngineKey
    size: Annotated[int, Meta(ge=0)]
    """Of the plan, in bytes."""

    modified: int
    """When the plan was written or last hashed, in nanoseconds: its hash is not computed again."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Of the plan."""

    notes: Mapping[str, Any]
    """Facts about the build, not compared."""

    verified: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By GPU: the errors of each output against the golden vectors."""


def differences(wanted: EngineKey, found: EngineKey) -> list[str]:
    """Return one line for each field in which an engine's key does not fit the wanted one.

    A field fits if it is equal; an engine for any GPU fits each of its capabilities, and a
    version-compatible engine fits newer versions.
    """
    lines = []
    for name in (item.name for item in fields(EngineKey)):
        here, there = getattr(wanted, name), getattr(found, name)
        if isinstance(here, Mapping):
            names = [n for n in sorted({*here, *there}) if here.get(n) != there.get(n)]
            lines += [_line(f"{name} {n}", here.get(n), there.get(n)) for n in names]
        elif here != there and not (name in _ACCEPTS and _ACCEPTS[name](wanted, found)):
            lines.append(_line(name, here, there))
    return lines


def mismatches(plan: Path, key: EngineKey) -> list[str]:
    """Return why the engine at ``plan`` cannot be used, one reason a line; empty if it can."""
    if not plan.is_file():
        return ["not built yet"]
    try:
        record = _read_record(plan)
    except ValueError as error:
        return [str(error)]
    lines = differences(key, record.key)
    try:
        if not lines and not _is_unchanged(plan, record):
            return ["the plan is damaged: its SHA-256 is not the recorded one"]
    except OSError as error:  # it is not readable, or another process removed it meanwhile
        return [f"the plan cannot be read: {error.strerror or error}"]
    return lines


def find_plan(
    folder: Path,
    pattern: str,
    key: EngineKey,
    shapes: Mapping[str, Shape],
    free_flags: Collection[str] = (),
) -> tuple[Path, Profile] | None:
    """Return an engine of ``folder`` that fits a key and accepts ``shapes``; None if there is none.

    ``free_flags``: names of settings that may differ. The key's own profile comes first, then a fixed
    size, which is faster than a range of sizes.
    """

    def name(flag: str) -> str:
        return flag.partition("=")[0]

    found = []
    for plan in sorted(folder.glob(pattern)):
        with suppress(ValueError):
            built = _read_record(plan).key
            flags = [flag for flag in key.flags if name(flag) not in free_flags]
            flags += [flag for flag in built.flags if name(flag) in free_flags]
            wanted = replace(key, profile=built.profile, flags=tuple(sorted(flags)))
            if contains(built.profile, shapes) and not mismatches(plan, wanted):
                found.append((plan, built.profile))
    found.sort(key=lambda item: (item[1] != key.profile, not is_fixed(item[1])))
    return found[0] if found else None


def get_or_build(
    plan: Path,
    key: EngineKey,
    build: Callable[[], tuple[Any, Mapping[str, Any]]],
    *,
    rebuild: bool = True,
    log: Callable[[str], None] = log_to_terminal,
) -> bool:
    """Make sure that ``plan`` holds an engine of this key; return True if it was built now.

    ``build`` returns the plan (any object with the buffer interface) and notes for the record. One
    process builds at a time; others wait and use its engine. ``log`` is called with one message per
    build or wait. Raise EngineError, naming every field that differs, if the engine does not match
    and ``rebuild`` is False.
    """
    reasons = mismatches(plan, key)
    if not reasons:
        return False
    if not rebuild:
        raise EngineError(
            f"{plan} does not match: {'; '.join(reasons)}; leave out no-rebuild, or name the device "
            "instead of auto"
        )
    try:
        plan.parent.mkdir(parents=True, exist_ok=True)
        with _locked(plan, log):
            remove_leftovers(plan.parent)
            reasons = mismatches(plan, key)
            if not reasons:
                return False
            log(f"building {plan.name}: {'; '.join(reasons)}")
            data, notes = build()
            _store(plan, key, data, notes)
    except OSError as error:
        raise EngineError(f"{plan} cannot be written: {error.strerror or error}") from error
    return True


def add_notes(plan: Path, notes: Mapping[str, Any]) -> None:
    """Add facts to an engine's record; do nothing if it cannot be written."""
    _rewrite(plan, lambda record: replace(record, notes={**record.notes, **notes}))


def is_verified(plan: Path, gpu: str) -> bool:
    """Return whether an engine has passed the golden vectors on a GPU of this name."""
    try:
        return gpu in _read_record(plan).verified
    except ValueError:
        return False


def mark_verified(plan: Path, gpu: str, errors: Mapping[str, float]) -> None:
    """Record that an engine has passed; do nothing if the record cannot be written."""
    _rewrite(plan, lambda record: replace(record, verified={**record.verified, gpu: errors}))


def discard(plan: Path) -> None:
    """Remove an engine that cannot be used; do nothing if it cannot be removed."""
    for path in (_record_path(plan), plan):
        with suppress(OSError):
            path.unlink()


def _accepts_version(wanted: EngineKey, found: EngineKey) -> bool:
    flag = "version-compatible=True"
    newer = numbers(found.version) <= numbers(wanted.version)
    return newer and flag in wanted.flags and flag in found.flags


def _accepts_capabilities(wanted: EngineKey, found: EngineKey) -> bool:
    if found.capabilities == (AMPERE_OR_NEWER,):
        return all(numbers(capability) >= _AMPERE for capability in wanted.capabilities)
    return set(wanted.capabilities) <= set(found.capabilities)


_ACCEPTS: dict[str, Callable[[EngineKey, EngineKey], bool]] = {
    "version": _accepts_version,
    "gpu": lambda wanted, found: found.gpu == ANY_GPU,
    "capabilities": _accepts_capabilities,
}


def _store(plan: Path, key: EngineKey, data: Any, notes: Mapping[str, Any]) -> None:
    """Write the plan, then its record; a crash in between only causes another build."""
    view = memoryview(data)
    digest = hashlib.sha256(view).hexdigest()
    write_whole(plan, view)
    _write_record(plan, _Record(2, key, view.nbytes, plan.stat().st_mtime_ns, digest, notes))


def _is_unchanged(plan: Path, record: _Record) -> bool:
    """Compare a plan's hash with the recorded one, unless size and time tell that it was compared."""
    status = plan.stat()
    if status.st_size != record.size:
        return False
    if status.st_mtime_ns == record.modified:
        return True
    if sha256(plan) != record.sha256:
        return False
    _rewrite(plan, lambda now: replace(now, modified=status.st_mtime_ns))
    return True


def _read_record(plan: Path) -> _Record:
    """Read ``name.json``; raise ValueError in one line."""
    path = _record_path(plan)
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error


def _write_record(plan: Path, record: _Record) -> None:
    text = msgspec.json.format(msgspec.json.encode(record), indent=1)
    write_whole(_record_path(plan), text + b"\n")


def _rewrite(plan: Path, change: Callable[[_Record], _Record]) -> None:
    with suppress(OSError, ValueError):
        _write_record(plan, change(_read_record(plan)))


@contextmanager
def _locked(plan: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a plan. The system releases it if the process dies."""
    lock = FileLock(plan.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log(f"waiting: another process builds {plan.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _record_path(plan: Path) -> Path:
    return plan.with_suffix(".json")


def _line(name: str, here: Any, there: Any) -> str:
    return f"{name}: {_word(here)} here, {_word(there)} in the engine"


def _word(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 else text  # the first digits of a SHA-256 are enough
