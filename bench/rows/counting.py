"""Count a system: parameters and multiply-accumulates, on the meta device."""

from dataclasses import dataclass

from ..measure.calls import Variant
from ..measure.count import Count, count_and_fingerprint, count_components
from ..systems.system import System
from .results import Row, Stage
from .session import COUNTED, Session
from .table import TABLES

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Counted:
    """The counts of a system."""

    networks: dict[str, Count]
    fingerprints: dict[str, str]
    """Equal for networks that do the same work."""

    parameters: int
    """The sum that Table 1 prints."""

    def weights(self, network: str) -> int:
        """Return the bytes of a network's float32 weights."""
        return _FLOAT * self.networks[network].parameters


def count_system(session: Session, system: System) -> Counted:
    """Count a system once per run."""

    def count() -> Counted:
        with session.progress.phase(f"{system.name}: counting"):
            found = {n.name: count_and_fingerprint(n) for n in system.networks}
            return Counted(
                networks={name: count for name, (count, _) in found.items()},
                fingerprints={name: fingerprint for name, (_, fingerprint) in found.items()},
                parameters=sum(count_components(system).values()),
            )

    return session.shared.get(("count", system.name), count)


def counted_row(session: Session, system: System, variant: Variant) -> Row:
    """Return a row with counts and published figures, and without times."""
    counted, settings = count_system(session, system), session.settings
    stages = tuple(
        Stage(n.name, n.calls, found.parameters, found.gmac, n.official.gmac)
        for n, found in zip(system.networks, counted.networks.values(), strict=True)
    )
    is_timed = variant != COUNTED
    return Row(
        system=system.name,
        title=system.title,
        protocol=settings.protocol,
        backend=variant.backend,
        device=settings.device if is_timed else "meta",
        precision=variant.precision,
        size=settings.size,
        reduced=settings.reduced,
        parameters=counted.parameters,
        official_parameters=sum(part.parameters for part in system.components),
        gmac=sum(stage.calls * stage.gmac for stage in stages),
        official_gmac=system.gmac,
        paper_parameters=system.published.parameters,
        paper_latency_s=system.published.latency,
        paper_maniqa=system.published.maniqa,
        paper=dict(TABLES[settings.table].paper.get(system.name, {})),
        note=system.note,
        stages=stages,
        warmup=settings.warmup if is_timed else 0,
        repetitions=settings.repetitions if is_timed else 0,
    )
