"""What is predicted: rows of Table 1, or the stages of a bundle, on devices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from ...runtime.bundle import CONDITION, Manifest
from ...runtime.terminal import Progress
from ..systems.dossr import STAGE_OF, bundled_networks
from ..systems.system import Network, System
from .devices import Catalogue, Device
from .roofline import Bound, bound, memory, roofline, total
from .work import BYTES, Work, count_work

KIND = "predicted"
"""Stands in every document and above every table: nothing here was measured on the device."""


@dataclass(frozen=True)
class Subject:
    """What runs for an image: a system of Table 1, or a bundle."""

    name: str
    title: str
    works: tuple[Work, ...]
    paper_latency_s: float | None = None
    """Table 1, V100."""

    @property
    def gmac(self) -> float:
        """1e9 multiply-accumulates per image."""
        return sum(work.calls * work.gmac for work in self.works)


@dataclass(frozen=True)
class Prediction:
    """Bounds of one subject on one device; None where a figure of the device is missing."""

    subject: str
    title: str
    device: str
    memory_bytes: int
    """Weights of all networks and the largest intermediate results of any, in this precision."""

    seconds: float | None = None
    """An image takes at least this: the networks alone."""

    memory_bound_share: float | None = None
    energy_j: float | None = None
    """``seconds`` at full board power: at most this in that time."""

    fits: bool | None = None
    """Whether ``memory_bytes`` are within the device's memory."""

    networks: tuple[Bound, ...] = ()
    missing: str = ""
    """Which figure of the device has no source."""

    kind: str = KIND


@dataclass(frozen=True)
class Predictions:
    """All predictions of a run."""

    precision: str
    backend: str
    size: int
    """Side of the LR image."""

    subjects: tuple[Subject, ...]
    devices: tuple[Device, ...]
    rows: tuple[Prediction, ...]

    def of(self, device: Device) -> list[Prediction]:
        """Return the rows of a device."""
        return [row for row in self.rows if row.device == device.name]

    def as_dict(self, catalogue: Catalogue) -> dict[str, Any]:
        """Return all predictions, and the figures that they rest on with their sources."""
        return {
            "kind": KIND,
            "precision": self.precision,
            "backend": self.backend,
            "size": self.size,
            "devices": msgspec.to_builtins(self.devices),
            "sources": msgspec.to_builtins(catalogue.sources),
            "rows": [asdict(row) for row in self.rows],
        }


def count_systems(systems: Iterable[System], progress: Progress) -> tuple[Subject, ...]:
    """Count systems of Table 1."""
    found = []
    for system in systems:
        with progress.phase(f"{system.name}: counting"):
            works = tuple(map(count_work, system.networks))
        found.append(Subject(system.name, system.title, works, system.published.latency))
    return tuple(found)


def count_bundle(name: str, manifest: Manifest, size: int, steps: int) -> Subject:
    """Count the stages of a bundle for LR images of ``size``, which run untiled."""
    return Subject(name, name, count_stages(bundle_networks(manifest, size, steps)))


def bundle_networks(manifest: Manifest, size: int, steps: int) -> tuple[Network, ...]:
    """Return the networks of a bundle's stages.

    Raises ValueError for a size that is no multiple of the bundle's, or a manifest without its model.
    """
    from ...export.checkpoint.config import ModelConfig

    if size % manifest.size_multiple:
        raise ValueError(f"size must be a multiple of {manifest.size_multiple}, got {size}")
    try:
        config = msgspec.convert(manifest.model, ModelConfig)
    except msgspec.ValidationError as error:
        raise ValueError(f"the manifest must hold the model's configuration: {error}") from error
    return bundled_networks(config, steps, size, CONDITION in manifest.stages)


def count_stages(networks: Iterable[Network]) -> tuple[Work, ...]:
    """Count networks; each is named by its stage."""
    works = map(count_work, networks)
    return tuple(replace(w, name=STAGE_OF[w.name]) for w in works)


def predict(
    subjects: Sequence[Subject],
    devices: Sequence[Device],
    settings: Mapping[str, Any],
) -> Predictions:
    """Predict every subject on every device; ``settings``: precision, backend, size."""
    rows = tuple(
        _prediction(subject, device, settings["precision"], settings["backend"])
        for device in devices
        for subject in subjects
    )
    return Predictions(subjects=tuple(subjects), devices=tuple(devices), rows=rows, **settings)


def _prediction(subject: Subject, device: Device, precision: str, backend: str) -> Prediction:
    needed = memory(subject.works, BYTES[precision])
    held = device.memory
    fits = None if held is None else needed <= held.value * 1e9
    try:
        line = roofline(device, precision, backend)
    except ValueError as error:
        return Prediction(
            subject.name, subject.title, device.name, needed, fits=fits, missing=str(error)
        )
    bounds = tuple(bound(work, line) for work in subject.works)
    seconds, share = total(bounds)
    return Prediction(
        subject=subject.name,
        title=subject.title,
        device=device.name,
        memory_bytes=needed,
        seconds=seconds,
        memory_bound_share=share,
        energy_j=seconds * device.power.value if device.power else None,
        fits=fits,
        networks=bounds,
    )
