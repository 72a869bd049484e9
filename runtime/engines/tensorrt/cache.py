"""A built engine on disk: what it was built from, whether it fits here, and one builder at a time.

An engine is executable code for one GPU, driver and TensorRT. Beside ``name.engine`` lies
``name.json`` with its key; only where every field agrees, and the plan is the one that was written,
is it used. A plan is trusted like a program: do not copy one from where you would not run one.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from ...bundle import sha256
from ...errors import EngineError
from ...files import remove_leftovers, write_whole

FORMAT_VERSION = 1
Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""By input: the smallest, the usual and the largest shape. Three equal ones are a fixed size."""


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
    """How the builder was set, such as level=3; sorted."""

    def document(self) -> dict[str, Any]:
        """The key as JSON has it: lists for tuples, so that it compares with one that was read."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


def differences(wanted: EngineKey, found: Mapping[str, Any]) -> list[str]:
    """One line for each field in which a stored key (as JSON has it) is not the wanted one."""
    here = wanted.document()
    lines = []
    for field in fields(EngineKey):
        ours, theirs = here[field.name], found.get(field.name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            names = [n for n in sorted({*ours, *theirs}) if ours.get(n) != theirs.get(n)]
            lines += [_line(f"{field.name} {n}", ours.get(n), theirs.get(n)) for n in names]
        elif ours != theirs:
            lines.append(_line(field.name, ours, theirs))
    return lines


def refusals(plan: Path, key: EngineKey) -> list[str]:
    """Why the engine at ``plan`` cannot be used, a line for each reason; none where it can."""
    if not plan.is_file():
        return ["not built yet"]
    try:
        document = json.loads(_record_path(plan).read_text(encoding="utf-8"))
        version, found = document["format_version"], document["key"]
        size, digest = document["size"], document["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return [f"{_record_path(plan).name}, which says what it was built from, cannot be read"]
    if version != FORMAT_VERSION or not isinstance(found, dict):
        return [f"record: must have format_version {FORMAT_VERSION}, got {version!r}"]
    lines = differences(key, found)
    if not lines and (plan.stat().st_size != size or sha256(plan) != digest):
        return ["the plan is damaged: it is not the one that was built"]
    return lines


def get_or_build(
    plan: Path,
    key: EngineKey,
    build: Callable[[], tuple[Any, Mapping[str, Any]]],
    *,
    rebuild: bool = True,
    log: Callable[[str], None] | None = None,
) -> bool:
    """See to it that ``plan`` holds an engine of this key; True where it was built now.

    ``build`` gives the plan (anything with the buffer interface) and what to note of it. It is
    called by one process at a time: another waits, and takes what the first has built. ``log`` is called with one line that says why an engine is built or waited for. Raises EngineError, with every field
    that differs, where the engine there does not fit and ``rebuild`` is False.
    """
    log = log or _ignore
    reasons = refusals(plan, key)
    if not reasons:
        return False
    if not rebuild:
        raise EngineError(f"{plan} does not fit: {'; '.join(reasons)}; allow it to be built again")
    try:
        plan.parent.mkdir(parents=True, exist_ok=True)
        with _alone(plan, log):
            remove_leftovers(plan.parent)
            reasons = refusals(plan, key)
            if not reasons:
                return False
            log(f"building {plan.name}: {'; '.join(reasons)}")
            data, notes = build()
            _store(plan, key, data, notes)
    except OSError as error:
        raise EngineError(f"{plan} cannot be written: {error.strerror or error}") from error
    return True


def _store(plan: Path, key: EngineKey, data: Any, notes: Mapping[str, Any]) -> None:
    """The plan first: a record of another plan only means that it is built once more."""
    view = memoryview(data)
    document = {
        "format_version": FORMAT_VERSION,
        "key": key.document(),
        "size": view.nbytes,
        "sha256": hashlib.sha256(view).hexdigest(),
        "notes": dict(notes),
    }
    write_whole(plan, view)
    write_whole(_record_path(plan), (json.dumps(document, indent=1) + "\n").encode())


@contextmanager
def _alone(plan: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a plan. It is the system's, so that it goes with the process that holds it."""
    with plan.with_suffix(".lock").open("a+b") as file:
        if not _locked(file, wait=False):
            log(f"waiting: another process builds {plan.name}")
            _locked(file, wait=True)
        yield


if sys.platform == "win32":
    import msvcrt
    import time

    def _locked(file: IO[bytes], wait: bool) -> bool:
        while True:
            file.seek(0)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(0.5)
else:
    import fcntl

    def _locked(file: IO[bytes], wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


def _record_path(plan: Path) -> Path:
    return plan.with_suffix(".json")


def _line(name: str, here: Any, there: Any) -> str:
    return f"{name}: {_word(here)} here, {_word(there)} in the engine"


def _word(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:12] if len(text) == 64 else text  # of a SHA-256 the first digits tell enough


def _ignore(line: str) -> None:
    """What nobody wants to hear."""
