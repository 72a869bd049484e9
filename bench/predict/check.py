"""How far predictions are off: predicted against measured, stage by stage, on one processor.

The roofline of a check is measured, not published: the rate of the processor's matrix product and
the bandwidth of its memory.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...export.checkpoint.config import OFFICIAL
from ..rows.results import load_results
from ..systems import SYSTEMS, load_system
from ..systems.dossr import bundled_networks, networks
from ..systems.system import Network
from .devices import Device
from .predictions import count_stages
from .roofline import Roofline, bound, roofline, total
from .work import BYTES, Work, count_work


@dataclass(frozen=True)
class Check:
    """One stage of a run: its predicted time and its measured one, in seconds per image."""

    run: str
    """System, backend and precision."""

    stage: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Predicted over measured: the share of the bound that the run reached."""
        return self.predicted / self.measured


@dataclass(frozen=True)
class Processor:
    """The measured limits of a processor."""

    tmac_s: Mapping[str, float]
    """1e12 multiply-accumulates per second of the matrix product, by precision."""

    bytes_per_s: float

    def line(self, precision: str, is_fused: bool) -> Roofline:
        """Return the roofline; a precision slower than fp32 is computed in fp32."""
        rate = max(self.tmac_s.get(name, 0.0) for name in (precision, "fp32"))
        if not rate:
            raise ValueError("the results hold no rate of the matrix product; measure them again")
        return Roofline(rate * 1e12, self.bytes_per_s, BYTES[precision], is_fused)


def check_file(path: Path, bytes_per_s: float) -> list[Check]:
    """Check the results of ``dossr-bench table1`` or ``pipeline``, whose rates the file holds.

    Raises ValueError for another file.
    """
    try:
        document = json.loads(path.read_bytes())
        return (
            _pipeline(document, bytes_per_s)
            if "contenders" in document
            else _table1(path, bytes_per_s)
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} must be results of dossr-bench table1 or pipeline: {error}"
        ) from error


def _table1(path: Path, bytes_per_s: float) -> list[Check]:
    """Check the timed rows on a CPU; a network that several rows share once."""
    results, found = load_results(path), []
    seen: set[tuple[str, str, float]] = set()
    rates = {
        name.removeprefix("cpu "): rate
        for name, rate in results.provenance["matmul_tmac_s"].items()
    }
    counted: dict[tuple[str, int, bool], dict[str, Work]] = {}
    for row in results.rows:
        if row.failed or row.device != "cpu" or row.latency_s is None:
            continue
        key = (row.system, row.size, row.reduced)
        if key not in counted:
            counted[key] = {n.name: count_work(n) for n in load_system(*key).networks}
        line = Processor(rates, bytes_per_s).line(row.precision, row.backend != "torch")
        variant, times = f"{row.backend} {row.precision}", {}
        for stage in row.stages:
            if stage.seconds and (same := (variant, stage.name, stage.seconds)) not in seen:
                seen.add(same)
                times[stage.name] = stage.calls * stage.seconds
        found += checks(f"{row.title}, {variant}", counted[key].values(), line, times)
    return found


def _pipeline(document: Mapping[str, Any], bytes_per_s: float) -> list[Check]:
    """Check the contenders; the model must be the official one, whose sizes are known."""
    processor, found = Processor(document["matmul_tmac_s"], bytes_per_s), []
    counted: dict[str, tuple[Work, ...]] = {}
    for contender in document["contenders"]:
        if contender["failed"] or contender["device"] not in ("cpu", "openvino"):
            continue
        kind = contender["kind"]
        if kind not in counted:
            counted[kind] = count_stages(_official(kind, document))
            _match(counted[kind], contender["stage_gmac"])
        medians, taken = contender["stage_p50_s"], contender["stage_precisions"]
        for precision in sorted(set(taken.values())):
            times = {name: medians[name] for name, each in taken.items() if each == precision}
            line = processor.line(precision, kind == "bundle" or _is_compiled(contender))
            run = f"{_run(contender)} {precision}"
            found += checks(run, counted[kind], line, times)
    return found


def _official(kind: str, document: Mapping[str, Any]) -> tuple[Network, ...]:
    if kind == "torch":
        return networks(OFFICIAL, document["steps"], document["size"])
    return bundled_networks(OFFICIAL, document["steps"], document["size"], has_condition=False)


def _match(works: Iterable[Work], gmac: Mapping[str, float]) -> None:
    """Raise ValueError where the counted model is not the one that was measured."""
    here: dict[str, float] = {}
    for work in works:
        here[work.name] = here.get(work.name, 0.0) + work.calls * work.gmac
    for stage, expected in gmac.items():
        if abs(here.get(stage, 0.0) - expected) > 1e-6 * expected:
            raise ValueError(
                f"the results must be of the official model, got {expected} GMAC of {stage} "
                f"instead of {here.get(stage, 0.0)}"
            )


def _run(contender: Mapping[str, Any]) -> str:
    if contender["kind"] == "torch":
        return f"released procedure, torch{'.compile' if _is_compiled(contender) else ''}"
    return f"bundle, {'OpenVINO' if contender['device'] == 'openvino' else 'ONNX Runtime'}"


def _is_compiled(contender: Mapping[str, Any]) -> bool:
    return bool(contender["name"].startswith("torch-compile"))


def check_paper(device: Device, precisions: Iterable[str]) -> list[Check]:
    """Check published rates against the latencies that the paper prints for its V100.

    The paper tells neither the precision nor which V100; torch ran there, not an engine.
    """
    found = []
    for name in SYSTEMS:
        system = load_system(name)
        if system.published.latency is None:
            continue
        works = [count_work(network) for network in system.networks]
        for precision in precisions:
            line = roofline(device, precision, "torch")
            seconds, _ = total(bound(work, line) for work in works)
            run = f"{system.title}, {device.title} {precision}"
            found.append(Check(run, "image", seconds, system.published.latency))
    return found


def checks(
    run: str, works: Iterable[Work], line: Roofline, times: Mapping[str, float]
) -> list[Check]:
    """Return a check for each measured stage; ``times`` holds seconds per image."""
    predicted: dict[str, float] = {}
    for work in works:
        predicted[work.name] = predicted.get(work.name, 0.0) + bound(work, line).seconds
    return [
        Check(run, stage, predicted[stage], seconds)
        for stage, seconds in times.items()
        if stage in predicted
    ]
