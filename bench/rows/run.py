"""Measure the rows of a run, one after the other."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from ..measure.backends import missing
from ..measure.calls import VARIANTS, MeasureMachine, ProbeRuntime, Variant
from ..measure.process import CallError
from ..systems.system import System
from .compose import composed
from .counting import counted_row
from .exports import Todo, drop_exports
from .replay import replayed
from .results import Row
from .session import COUNTED, Session

_PROTOCOLS = {"compose": composed, "replay": replayed}


@dataclass(frozen=True)
class Machine:
    """What the machine reaches without networks; None and empty where it was not measured."""

    io_s: float | None
    """Seconds of reading and writing an image file."""

    tmac_s: Mapping[str, float]
    """1e12 multiply-accumulates per second by device and precision, such as ``cpu fp32``."""


def measure_machine(session: Session, todo: Todo, known: Mapping[str, float]) -> Machine:
    """Time image files, and the matrix products that are not ``known`` yet.

    Prints a note on failure; the rows then lack these figures.
    """
    device = session.settings.device
    timed = {v.precision for _, v in todo if v != COUNTED and not _missing(session, v)}
    if not timed:
        return Machine(None, known)
    unknown = tuple(sorted(p for p in timed if f"{device} {p}" not in known))
    call = MeasureMachine(size=session.settings.size, device=device, precisions=unknown)
    try:
        found = session.measure(call, "matrix products and image files", len(unknown))
    except CallError as error:
        session.progress.note(f"matrix products and image files not measured: {error}")
        return Machine(None, known)
    return Machine(
        found.io_s, {**known, **{f"{device} {p}": rate for p, rate in found.tmac_s.items()}}
    )


def measure_rows(session: Session, todo: Todo, machine: Machine) -> Iterator[Row]:
    """Yield each row; one that cannot be measured contains the reason."""
    for number, (system, variant) in enumerate(todo, 1):
        yield _row(session, system, variant, machine)
        drop_exports(session, todo[number:])


def _row(session: Session, system: System, variant: Variant, machine: Machine) -> Row:
    row = counted_row(session, system, variant)
    if variant == COUNTED:
        return row
    if reason := _missing(session, variant):
        return replace(row, failed=reason)
    try:
        return _with_rates(
            _PROTOCOLS[session.settings.protocol](session, row, system, variant), machine
        )
    except CallError as error:
        return replace(row, failed=str(error))


def _missing(session: Session, variant: Variant) -> str:
    """Return why a variant cannot run here; an empty string where it can."""
    device = session.settings.device
    reason = missing(variant, device) or missing(VARIANTS["torch"], device)  # the loop's
    engine = variant.engine(device)
    if reason or not variant.is_exported or engine == "cpu":
        return reason
    call = ProbeRuntime(device=engine, precision=variant.computed)
    try:
        session.shared.get(call, lambda: session.measure(call, f"the runtime on {engine}"))
    except CallError as error:
        return str(error)
    return ""


def _with_rates(row: Row, machine: Machine) -> Row:
    assert row.latency_s is not None
    rate = row.gmac / 1e3 / row.latency_s
    peak = machine.tmac_s.get(f"{row.device} {row.precision}")
    return replace(
        row, io_s=machine.io_s, tmac_s=rate, utilization=None if peak is None else rate / peak
    )
