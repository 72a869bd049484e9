"""The rows of one run: what is counted here, and what is measured in processes of their own."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..measure.backends import missing
from ..measure.count import Count, count_components
from ..measure.fingerprint import count_and_fingerprint
from ..measure.process import Job, JobError, run
from ..measure.timing import ImageTime, NetworkTime
from ..measure.variants import VARIANTS, Variant
from ..systems.system import Network, System
from .results import Row, Stage

COUNTED = Variant("-", "-")
"""The variant of rows that are counted only."""

_FLOAT = 4  # bytes
_BASE = 2**29  # bytes of a process that has loaded its libraries and nothing else

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What holds for all rows of a run."""

    protocol: str
    size: int
    device: str
    warmup: int
    repetitions: int
    reduced: bool

    def key(self, system: str, variant: Variant) -> tuple[str, str, str, str, str, int, bool]:
        """Row.key of a row to come."""
        device = "meta" if variant == COUNTED else self.device
        return (system, self.protocol, variant.backend, device, variant.precision, self.size,
                self.reduced)  # fmt: skip


class Progress(Protocol):
    """Shows what goes on."""

    def phase(
        self, label: str, length: int | None = None
    ) -> AbstractContextManager[Callable[[int], None]]: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Counted:
    """A system's figures."""

    networks: dict[str, Count]
    fingerprints: dict[str, str]
    parameters: int

    def weights(self, network: str) -> int:
        """Bytes of a network's weights in float32."""
        return _FLOAT * self.networks[network].parameters


@dataclass(frozen=True)
class Timed:
    """A network's times, and the system with which they were taken."""

    time: NetworkTime
    export_s: float | None
    system: str


class Session:
    """Measures rows. What several systems share is exported and timed once, with the first of them."""

    def __init__(
        self, settings: Settings, scratch: Path, peaks: dict[str, float], progress: Progress
    ) -> None:
        """``scratch``: an empty folder. ``peaks``: Results' matmul_tmac_s, which is added to."""
        self._settings, self._scratch, self._progress = settings, scratch, progress
        self._peaks = peaks
        self._io_s: float | None = None
        self._known: dict[object, Any] = {}

    def rows(self, todo: Sequence[tuple[System, Variant]]) -> Iterator[Row]:
        """One row after the other; one that cannot be measured has its reason in it."""
        timed = {v.precision for _, v in todo if v != COUNTED and not self._missing(v)}
        if timed:
            self._measure_machine(timed)
        for number, (system, variant) in enumerate(todo, 1):
            yield self._row(system, variant)
            self._drop_files([later for later, _ in todo[number:]])

    def _row(self, system: System, variant: Variant) -> Row:
        row = self._counted_row(system, variant)
        if variant == COUNTED:
            return row
        if reason := self._missing(variant):
            return replace(row, failed=reason)
        measure = self._composed if self._settings.protocol == "compose" else self._replayed
        try:
            return self._with_rates(measure(row, system, variant))
        except JobError as error:
            return replace(row, failed=str(error))

    def _counted_row(self, system: System, variant: Variant) -> Row:
        counted, settings = self._count(system), self._settings
        stages = tuple(
            Stage(n.name, n.calls, found.parameters, found.gmac, n.known.gmac)
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
            note=_joined(system.note, self._copies(variant)),
            stages=stages,
            warmup=settings.warmup if is_timed else 0,
            repetitions=settings.repetitions if is_timed else 0,
        )

    def _composed(self, row: Row, system: System, variant: Variant) -> Row:
        """Each network alone in a process; the row adds up calls times medians, and the loop."""
        found = {n.name: self._network(system, n, variant) for n in system.networks}
        loop = self._loop(system, variant)
        stages = tuple(
            _timed_stage(s, found[s.name].time, found[s.name].export_s) for s in row.stages
        )
        latency = sum(n.calls * found[n.name].time.seconds for n in system.networks) + loop
        first = sum(found[n.name].time.cold_s - found[n.name].time.seconds for n in system.networks)
        peaks = [timed.time.peak_bytes for timed in found.values()]
        return replace(
            row,
            note=_joined(row.note, _shared(found, system)),
            stages=stages,
            latency_s=latency,
            cold_s=latency + first,
            loop_s=loop,
            peak_bytes=max((peak for peak in peaks if peak is not None), default=None),
        )

    def _replayed(self, row: Row, system: System, variant: Variant) -> Row:
        """The whole procedure in one process with all networks loaded."""
        files, exports = {}, dict[str, float]()
        if variant.backend == "onnx":
            for n in system.networks:
                path, exports[n.name] = self._exported(system, n)
                files[n.name] = str(path)
        weights = [self._count(system).weights(n.name) for n in system.networks]
        need = sum(weights) if self._settings.device == "cpu" else max(weights)
        if variant.backend == "onnx":
            need += max(weights)
        runs = 1 + self._settings.warmup + self._settings.repetitions
        answer = self._run(
            self._job("image", system, variant, need, files=files),
            f"{system.name} {_name(variant)}",
            runs * sum(n.calls for n in system.networks),
        )
        networks = {name: NetworkTime(**time) for name, time in answer.pop("networks").items()}
        image = ImageTime(networks, **answer)
        return replace(
            row,
            stages=tuple(
                _timed_stage(s, image.networks[s.name], exports.get(s.name)) for s in row.stages
            ),
            latency_s=image.seconds,
            p90_s=image.p90_s,
            cold_s=image.cold_s,
            loop_s=image.loop_s,
            peak_bytes=image.peak_bytes,
        )

    def _copies(self, variant: Variant) -> str:
        if variant.backend != "onnx" or self._settings.device == "cpu":
            return ""
        return "each call copies its tensors between host and device"

    def _missing(self, variant: Variant) -> str:
        """Why a variant cannot run here; an empty string where it can."""
        device = self._settings.device
        if variant.backend != "onnx" or device == "cpu":
            return missing(variant, device)
        job = Job("probe", device=device)
        try:
            self._once("probe", lambda: self._run(job, f"the runtime on {device}"))
        except JobError as error:
            return str(error)
        return ""

    def _with_rates(self, row: Row) -> Row:
        assert row.latency_s is not None
        rate = row.gmac / 1e3 / row.latency_s
        peak = self._peaks.get(f"{row.device} {row.precision}")
        share = None if peak is None else rate / peak
        return replace(row, io_s=self._io_s, tmac_s=rate, utilization=share)

    def _measure_machine(self, precisions: set[str]) -> None:
        """Image files and matrix products; rows go without them where this fails."""
        device = self._settings.device
        unknown = tuple(sorted(p for p in precisions if f"{device} {p}" not in self._peaks))
        job = Job("machine", size=self._settings.size, device=device, precisions=unknown)
        try:
            answer = self._run(job, "matrix products and image files", len(unknown))
        except JobError as error:
            self._progress.note(f"no matrix products and image files: {error}")
            return
        self._io_s = answer["io_s"]
        self._peaks |= {f"{device} {p}": rate for p, rate in answer["tmac_s"].items()}

    def _count(self, system: System) -> Counted:
        def count() -> Counted:
            with self._progress.phase(f"{system.name}: counting"):
                found = {n.name: count_and_fingerprint(n) for n in system.networks}
                return Counted(
                    {name: count for name, (count, _) in found.items()},
                    {name: fingerprint for name, (_, fingerprint) in found.items()},
                    sum(count_components(system).values()),
                )

        return self._once(("count", system.name), count)

    def _network(self, system: System, network: Network, variant: Variant) -> Timed:
        counted = self._count(system)

        def time() -> Timed:
            need, files, export = counted.weights(network.name), {}, None
            if variant.backend == "onnx":
                path, export = self._exported(system, network)
                need, files = 2 * need, {network.name: str(path)}
            answer = self._run(
                self._job("network", system, variant, need, network=network.name, files=files),
                f"{system.name} {_name(variant)}: {network.name}",
                1 + self._settings.warmup + self._settings.repetitions,
            )
            return Timed(NetworkTime(**answer), export, system.name)

        try:
            return self._once((counted.fingerprints[network.name], variant), time)
        except JobError as error:
            raise JobError(f"{network.name}: {error}") from error
        finally:
            self._drop_files([])

    def _exported(self, system: System, network: Network) -> tuple[Path, float]:
        """Where the network lies as ONNX, and the seconds that this took."""
        counted = self._count(system)
        fingerprint, weights = counted.fingerprints[network.name], counted.weights(network.name)
        path = self._scratch / f"{fingerprint}.onnx"

        def export() -> tuple[Path, float]:
            free = shutil.disk_usage(self._scratch).free
            if free < weights:
                raise JobError(
                    f"lack of disk: {weights / 2**30:.1f} GiB needed in {self._scratch.parent}, "
                    f"{free / 2**30:.1f} GiB free; set TMPDIR to another folder"
                )
            files = {network.name: str(path)}
            job = self._job("export", system, VARIANTS["onnx"], 3 * weights, network.name, files)
            return path, self._run(job, f"{system.name} onnx: exporting {network.name}")

        return self._once(("export", fingerprint), export)

    def _loop(self, system: System, variant: Variant) -> float:
        outputs = {name: count.outputs for name, count in self._count(system).networks.items()}
        place = "cpu" if variant.backend == "onnx" else self._settings.device
        job = replace(self._job("loop", system, variant), outputs=outputs)
        label = f"{system.name}: loop alone"
        return self._once(("loop", system.name, place), lambda: float(self._run(job, label)))

    def _job(
        self,
        kind: str,
        system: System,
        variant: Variant,
        need: int = 0,
        network: str = "",
        files: dict[str, str] | None = None,
    ) -> Job:
        settings = self._settings
        return Job(
            kind=kind,
            system=system.name,
            network=network,
            size=settings.size,
            reduced=settings.reduced,
            variant=_name(variant),
            device=settings.device,
            warmup=settings.warmup,
            repetitions=settings.repetitions,
            files=files or {},
            need=need + _BASE,
        )

    def _run(self, job: Job, label: str, calls: int | None = None) -> Any:
        with self._progress.phase(label, calls) as tick:
            return run(job, tick)

    def _once(self, key: object, make: Callable[[], T]) -> T:
        """What was made under this key, or its error again."""
        if key not in self._known:
            try:
                self._known[key] = make()
            except JobError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, JobError):
            raise JobError(str(found))
        return found  # type: ignore[no-any-return]

    def _drop_files(self, later: Sequence[System]) -> None:
        """Remove exported networks that no later system has."""
        needed = {name for system in later for name in self._count(system).fingerprints.values()}
        for path in self._scratch.glob("*.onnx*"):
            fingerprint = path.name.partition(".")[0]
            if fingerprint not in needed:
                path.unlink()
                self._known.pop(("export", fingerprint), None)


def _timed_stage(stage: Stage, time: NetworkTime, export_s: float | None) -> Stage:
    return replace(
        stage, seconds=time.seconds, cold_s=time.cold_s, load_s=time.load_s, export_s=export_s
    )


def _shared(found: dict[str, Timed], system: System) -> str:
    """Which networks were timed with another system."""
    by_system: dict[str, list[str]] = {}
    for name, timed in found.items():
        if timed.system != system.name:
            by_system.setdefault(timed.system, []).append(name)
    return "; ".join(f"{', '.join(names)} timed with {other}" for other, names in by_system.items())


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _name(variant: Variant) -> str:
    return next(name for name, known in VARIANTS.items() if known == variant)
