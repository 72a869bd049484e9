"""The cache of built engines: their keys on disk, one builder at a time.

An engine is executable code for one GPU, driver and version of TensorRT. Beside ``name.engine`` lies
``name.json`` with its key. An engine is used only if every field of the key matches and the plan is
unchanged. A plan is trusted like a program: copy plans from trusted machines only.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from filelock import FileLock, Timeout
from msgspec import Meta

from ...bundle import sha256
from ...errors import EngineError
from ...files import remove_leftovers, write_whole
from ...terminal import log as log_to_terminal
from .profiles import Profile


@dataclass(frozen=True)
class EngineKey:
    """Everything that a built engine depends on."""

    files: Mapping[str, str]
    """SHA-256 of the ``.onnx`` file and of its external data, by name."""

    tensorrt: str
    gpu: str
    capability: str
    driver: str
    profile: Profile
    flags: tuple[str, ...]
    """Builder settings such as level=3, sorted."""


@dataclass(frozen=True)
class _Record:
    """The content of ``name.json``."""

    format_version: Literal[1]
    key: EngineKey
    size: Annotated[int, Meta(ge=0)]
    """Of the plan, in bytes."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """Of the plan."""

    notes: Mapping[str, Any]
    """Facts about the build, not compared."""


def differences(wanted: EngineKey, found: EngineKey) -> list[str]:
    """Return one line for each field in which two keys differ."""
    lines = []
    for field in fields(EngineKey):
        here, there = getattr(wanted, field.name), getattr(found, field.name)
        if isinstance(here, Mapping):
            names = [n for n in sorted({*here, *there}) if here.get(n) != there.get(n)]
            lines += [_line(f"{field.name} {n}", here.get(n), there.get(n)) for n in names]
        elif here != there:
            lines.append(_line(field.name, here, there))
    return lines


def mismatches(plan: Path, key: EngineKey) -> list[str]:
    """Return why the engine at ``plan`` cannot be used, one reason a line; empty if it can."""
    if not plan.is_file():
        return ["not built yet"]
    path = _record_path(plan)
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        return [f"{path.name} cannot be read: {error}"]
    lines = differences(key, record.key)
    if not lines and (plan.stat().st_size != record.size or sha256(plan) != record.sha256):
        return ["the plan is damaged: its SHA-256 is not the recorded one"]
    return lines


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
        raise EngineError(f"{plan} does not match: {'; '.join(reasons)}; leave out no-rebuild")
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


def _store(plan: Path, key: EngineKey, data: Any, notes: Mapping[str, Any]) -> None:
    """Write the plan, then its record; a crash in between only causes another build."""
    view = memoryview(data)
    record = _Record(1, key, view.nbytes, hashlib.sha256(view).hexdigest(), notes)
    write_whole(plan, view)
    text = msgspec.json.format(msgspec.json.encode(record), indent=1)
    write_whole(_record_path(plan), text + b"\n")


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
