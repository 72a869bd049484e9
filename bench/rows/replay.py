"""The ``replay`` protocol: the whole procedure, every step, in one process."""

from msgspec.structs import replace

from ..measure.calls import TimeImage, Variant
from ..systems.system import System
from .counting import count_system
from .exports import export
from .results import Row, timed_stage
from .session import Session, variant_name


def replayed(session: Session, row: Row, system: System, variant: Variant) -> Row:
    """Add times to a counted row from runs of the whole procedure. Raises CallError."""
    settings, counted = session.settings, count_system(session, system)
    exports = (
        {n.name: export(session, system, n, variant) for n in system.networks}
        if variant.is_exported
        else {}
    )
    weights = [counted.weights(n.name) for n in system.networks]
    need = sum(weights) if settings.device == "cpu" else max(weights)
    call = TimeImage(
        variant=variant_name(variant),
        files={name: str(exported.path) for name, exported in exports.items()},
        warmup=settings.warmup,
        repetitions=settings.repetitions,
        **settings.system_options(
            system.name, need + max(weights) if variant.is_exported else need
        ),
    )
    runs = 1 + settings.warmup + settings.repetitions
    ticks = runs * sum(n.calls for n in system.networks)
    image = session.measure(call, f"{system.name} {variant_name(variant)}", ticks)
    return replace(
        row,
        stages=tuple(
            timed_stage(
                stage,
                image.networks[stage.name],
                exports[stage.name].seconds if variant.is_exported else None,
            )
            for stage in row.stages
        ),
        latency_s=image.seconds,
        p90_s=image.p90_s,
        cold_s=image.cold_s,
        loop_s=image.loop_s,
        peak_bytes=image.peak_bytes,
    )
