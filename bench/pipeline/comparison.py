"""Results of ``dossr-bench pipeline``: contenders, and figures derived from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..sides import taken_text

NETWORKS = ("restorer", "text", "encoder", "denoiser", "decoder")
"""The stages that are networks."""

STAGES = ("upload", *NETWORKS[:4], "solver", "decoder", "colour fix", "download", "rest")
"""All stages, in order; ``rest`` is what torch spends outside its networks."""


@dataclass(frozen=True)
class Contender:
    """One way to run the model; None or empty where nothing was measured."""

    name: str
    """The variant of torch; of a bundle its path, device and precision."""

    kind: str
    """``torch`` (the released procedure) or ``bundle``."""

    source: str
    """The variant of torch, or the path of the bundle."""

    device: str
    precision: str
    """What was asked for; ``auto``: what the engine takes."""

    stage_gmac: Mapping[str, float]
    """1e9 multiply-accumulates per image, by stage."""

    weights: str = ""
    """The precision of a bundle's weights."""

    stage_precisions: Mapping[str, str] = field(default_factory=dict)
    """The precision that each stage computed in."""

    load_s: float | None = None
    """Time to read and hash the weights and to build or open the networks."""

    cold_start: Mapping[str, float] | None = None
    """StartTime of a process that finds empty caches."""

    warm_start: Mapping[str, float] | None = None
    """StartTime of the second process, which finds the caches of the first."""

    first_s: float | None = None
    """Time of the first image, compilation included."""

    seconds: tuple[float, ...] = ()
    """Time of each image after the warm-up."""

    stages: tuple[Mapping[str, float], ...] = ()
    """Seconds by stage, of as many additional images."""

    memory_bytes: int | None = None
    """Peak of the process on the CPU, of the device on a GPU."""

    mapped_bytes: int | None = None
    """Pages of mapped files in the peak of a process."""

    warm_memory_bytes: int | None = None
    """``memory_bytes`` of the second process, after one image."""

    golden: float | None = None
    """Largest relative error against the bundle's golden vectors."""

    psnr: float | None = None
    """dB, of its 8-bit image against the base's; None where both are equal."""

    largest: int | None = None
    """Largest difference of a pixel value, of 255."""

    failed: str = ""
    """Why it did not run; empty where it ran."""

    @property
    def gmac(self) -> float:
        """1e9 multiply-accumulates per image."""
        return sum(self.stage_gmac.values())

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of ``seconds``."""
        return float(np.percentile(self.seconds, percent)) if self.seconds else None

    def stage_medians(self) -> dict[str, float]:
        """Return the median seconds of each stage."""
        names = self.stages[0] if self.stages else ()
        return {name: float(np.median([each[name] for each in self.stages])) for name in names}

    def outside_share(self) -> float | None:
        """Return the share of the image time spent outside the networks."""
        medians = self.stage_medians()
        outside = sum(seconds for name, seconds in medians.items() if name not in NETWORKS)
        return outside / sum(medians.values()) if medians else None


@dataclass(frozen=True)
class Comparison:
    """Contenders with the same weights and noise, measured in one run."""

    size: int
    """Side of the LR image."""

    steps: int
    warmup: int
    repetitions: int
    contenders: tuple[Contender, ...]
    """The reference first."""

    matmul_tmac_s: Mapping[str, float]
    """1e12 multiply-accumulates per second of this device's matrix product, by precision."""

    @property
    def base(self) -> Contender | None:
        """The contender that images are compared with: the first that ran; None where none did."""
        return next((contender for contender in self.contenders if not contender.failed), None)

    @property
    def rivals(self) -> tuple[Contender, ...]:
        """The contenders that speed-ups refer to: the base, and every variant of torch that ran."""
        return tuple(
            contender
            for contender in self.contenders
            if contender == self.base or (contender.kind == "torch" and not contender.failed)
        )

    def utilization(self, contender: Contender) -> float | None:
        """Return the contender's arithmetic rate as a share of the matrix product in its precision."""
        ideal = [self._ideal(contender, stage) for stage in contender.stage_gmac]
        median = contender.percentile(50)
        return sum(filter(None, ideal)) / median if median and None not in ideal else None

    def stage_utilization(self, contender: Contender) -> dict[str, float]:
        """Return the utilization of each stage that is a network."""
        medians = contender.stage_medians()
        shares = {name: self._ideal(contender, name) for name in contender.stage_gmac}
        return {
            name: ideal / medians[name]
            for name, ideal in shares.items()
            if ideal and medians.get(name)
        }

    def _ideal(self, contender: Contender, stage: str) -> float | None:
        """Return the seconds of a stage at the rate of the matrix product.

        The float32 rate is used where it is higher: few CPUs multiply float16, for example.
        """
        precision = contender.stage_precisions.get(stage, contender.precision)
        rate = max(self.matmul_tmac_s.get(name, 0.0) for name in (precision, "fp32"))
        return contender.stage_gmac[stage] / 1e3 / rate if rate else None

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and all derived figures."""
        contenders = [
            {**asdict(contender), **self._figures(contender)} for contender in self.contenders
        ]
        base = self.base.name if self.base else None
        return {**asdict(self), "base": base, "contenders": contenders}

    def _figures(self, contender: Contender) -> dict[str, Any]:
        return {
            "p50_s": contender.percentile(50),
            "p90_s": contender.percentile(90),
            "stage_p50_s": contender.stage_medians(),
            "outside_share": contender.outside_share(),
            "gmac": contender.gmac,
            "computed": taken_text(contender.stage_precisions),
            "utilization": self.utilization(contender),
            "stage_utilization": self.stage_utilization(contender),
            "speed_up_over": {rival.name: speed_up(rival, contender) for rival in self.rivals},
        }


def speed_up(rival: Contender, contender: Contender) -> float | None:
    """Return the speed-up of a contender over a rival."""
    theirs, ours = rival.percentile(50), contender.percentile(50)
    return None if theirs is None or ours is None else theirs / ours
