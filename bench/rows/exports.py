"""Export networks to ONNX, each once per run, and remove them after their last use."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..measure.calls import ExportNetwork, Variant
from ..measure.process import CallError
from ..systems.system import Network, System
from .counting import count_system
from .session import Session, variant_name

Todo = Sequence[tuple[System, Variant]]
"""Rows that are not measured yet."""


@dataclass(frozen=True)
class Export:
    """An exported network."""

    path: Path
    seconds: float
    """Time of the export."""


def export(session: Session, system: System, network: Network, variant: Variant) -> Export:
    """Export a network, or return the earlier export of the same work for the same engine in the same precision.

    Raises CallError.
    """
    counted = count_system(session, system)
    weights = counted.weights(network.name)  # float32, the most that an export takes
    stem = _stem(counted.fingerprints[network.name], variant)
    path = session.scratch / f"{stem}.onnx"

    def make() -> Export:
        free = shutil.disk_usage(session.scratch).free
        if free < weights:
            raise CallError(
                f"lack of disk: {weights / 2**30:.1f} GiB needed in {session.scratch.parent}, "
                f"{free / 2**30:.1f} GiB free; set TMPDIR to another folder"
            )
        call = ExportNetwork(
            network=network.name,
            file=str(path),
            variant=variant_name(variant),
            **session.settings.system_options(system.name, 3 * weights),
        )
        label = f"{system.name} {variant_name(variant)}: exporting {network.name}"
        seconds = session.measure(call, label)
        return Export(path, seconds)

    return session.shared.get(("export", stem), make)


def drop_exports(session: Session, later: Todo) -> None:
    """Remove exported networks that no later row uses."""
    needed = {
        _stem(fingerprint, variant)
        for system, variant in later
        if variant.is_exported
        for fingerprint in count_system(session, system).fingerprints.values()
    }
    for path in session.scratch.glob("*.onnx*"):
        stem = path.name.partition(".")[0]
        if stem not in needed:
            path.unlink()
            session.shared.forget(("export", stem))


def _stem(fingerprint: str, variant: Variant) -> str:
    """Return the name of an export without its suffix."""
    return f"{fingerprint}-{variant.backend}-{variant.graph_precision}"
