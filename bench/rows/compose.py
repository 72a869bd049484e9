"""The ``compose`` protocol: each network alone in a process, multiplied by its calls."""

from dataclasses import dataclass

from msgspec.structs import replace

from ..measure.calls import NetworkTime, TimeLoop, TimeNetwork, Variant
from ..measure.process import CallError
from ..systems.system import Network, System
from .counting import count_system
from .exports import drop_exports, export
from .results import Row, timed_stage
from .session import Session, variant_name

_LEAST_LOOPS = 3


@dataclass(frozen=True)
class Timed:
    """Times of a network, and the system in which it was timed."""

    time: NetworkTime
    export_s: float | None
    system: str


def composed(session: Session, row: Row, system: System, variant: Variant) -> Row:
    """Add times to a counted row: calls times medians, plus the loop. Raises CallError."""
    found = {n.name: _time_network(session, system, n, variant) for n in system.networks}
    loop = _time_loop(session, system)
    latency = sum(n.calls * found[n.name].time.seconds for n in system.networks) + loop
    first = sum(timed.time.cold_s - timed.time.seconds for timed in found.values())
    peaks = [timed.time.peak_bytes for timed in found.values()]
    return replace(
        row,
        note="; ".join(note for note in (row.note, _shared(found, system)) if note),
        stages=tuple(
            timed_stage(s, found[s.name].time, found[s.name].export_s) for s in row.stages
        ),
        latency_s=latency,
        cold_s=latency + first,
        loop_s=loop,
        peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
    )


def _time_network(session: Session, system: System, network: Network, variant: Variant) -> Timed:
    """Time a network, or return the times of the same work in another system."""
    settings, counted = session.settings, count_system(session, system)

    def time() -> Timed:
        need, files, seconds = counted.weights(network.name), {}, None
        if variant.is_exported:
            exported = export(session, system, network, variant)
            seconds, files = exported.seconds, {network.name: str(exported.path)}
            need = 2 * need
        call = TimeNetwork(
            network=network.name,
            variant=variant_name(variant),
            files=files,
            warmup=settings.warmup,
            repetitions=settings.repetitions,
            **settings.system_options(system.name, need),
        )
        label = f"{system.name} {variant_name(variant)}: {network.name}"
        ticks = 1 + settings.warmup + settings.repetitions
        return Timed(session.measure(call, label, ticks), seconds, system.name)

    try:
        return session.shared.get((counted.fingerprints[network.name], variant), time)
    except CallError as error:
        raise CallError(f"{network.name}: {error}") from error
    finally:
        drop_exports(session, ())


def _time_loop(session: Session, system: System) -> float:
    """Time the loop with no-op networks, once per system."""
    call = TimeLoop(
        outputs={name: c.outputs for name, c in count_system(session, system).networks.items()},
        repetitions=max(session.settings.repetitions, _LEAST_LOOPS),
        **session.settings.system_options(system.name, 0),
    )
    label = f"{system.name}: loop alone"
    return session.shared.get(("loop", system.name), lambda: session.measure(call, label))


def _shared(found: dict[str, Timed], system: System) -> str:
    """Return a note that names the networks timed in another system."""
    by_system: dict[str, list[str]] = {}
    for name, timed in found.items():
        if timed.system != system.name:
            by_system.setdefault(timed.system, []).append(name)
    return "; ".join(f"{', '.join(names)} timed with {other}" for other, names in by_system.items())
