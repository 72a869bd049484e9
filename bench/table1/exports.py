"""Export networks to ONNX, each once per run, and remove them after their last use."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..measure.calls import ExportNetwork
from ..measure.process import CallError
from ..systems.system import Network, System
from .counting import count_system
from .session import Session


@dataclass(frozen=True)
class Export:
    """An exported network."""

    path: Path
    seconds: float
    """Time of the export."""


def export(session: Session, system: System, network: Network) -> Export:
    """Export a network, or return the earlier export of the same work. Raises CallError."""
    counted = count_system(session, system)
    fingerprint, weights = counted.fingerprints[network.name], counted.weights(network.name)
    path = session.scratch / f"{fingerprint}.onnx"

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
            **session.settings.system_options(system.name, 3 * weights),
        )
        seconds = session.measure(call, f"{system.name} onnx: exporting {network.name}")
        return Export(path, seconds)

    return session.shared.get(("export", fingerprint), make)


def drop_exports(session: Session, later: Sequence[System]) -> None:
    """Remove exported networks that no later system uses."""
    needed = {
        name for system in later for name in count_system(session, system).fingerprints.values()
    }
    for path in session.scratch.glob("*.onnx*"):
        fingerprint = path.name.partition(".")[0]
        if fingerprint not in needed:
            path.unlink()
            session.shared.forget(("export", fingerprint))
