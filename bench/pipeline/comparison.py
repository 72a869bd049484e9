"""What ``dossr-bench pipeline`` finds: contenders, and the figures that follow from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

NETWORKS = ("restorer", "text", "encoder", "denoiser", "decoder")
"""The stages that are networks."""

STAGES = ("upload", *NETWORKS[:4], "solver", "decoder", "colour fix", "download", "rest")
"""All, in the order of an image; ``rest`` is what torch spends outside of its networks."""


@dataclass(frozen=True)
class Contender:
    """One of those that are compared; what was not measured is None or empty."""

    name: str
    """As the command line has it, or where the bundle lies."""

    kind: str
    """``torch``, the released procedure, or ``bundle``."""

    device: str
    precision: str
    gmac: float
    """1e9 multiply-accumulates of an image."""

    load_s: float | None = None
    """Reading and hashing the weights, building or opening the networks."""

    first_s: float | None = None
    """The first image, compilation included."""

    seconds: tuple[float, ...] = ()
    """The images after the warm-up."""

    stages: tuple[Mapping[str, float], ...] = ()
    """Seconds by stage, of as many images more."""

    memory_bytes: int | None = None
    """The most that it held: its process on the CPU, on the device on a GPU."""

    psnr: float | None = None
    """dB, of its 8-bit image and the base's; None where they are one image."""

    largest: int | None = None
    """Largest difference of a value, of 255."""

    failed: str = ""
    """Why it did not run."""

    def percentile(self, percent: float) -> float | None:
        """Of ``seconds``."""
        return float(np.percentile(self.seconds, percent)) if self.seconds else None

    def stage_medians(self) -> dict[str, float]:
        """Seconds by stage."""
        names = self.stages[0] if self.stages else ()
        return {name: float(np.median([each[name] for each in self.stages])) for name in names}

    def outside_share(self) -> float | None:
        """What is spent outside of the networks, as a share of the image."""
        medians = self.stage_medians()
        outside = sum(seconds for name, seconds in medians.items() if name not in NETWORKS)
        return outside / sum(medians.values()) if medians else None


@dataclass(frozen=True)
class Comparison:
    """Same weights, same noise, same machine, one run."""

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
        """Whose image the others are held against: the first that ran; None where none did."""
        return next((contender for contender in self.contenders if not contender.failed), None)

    @property
    def rivals(self) -> tuple[Contender, ...]:
        """Whose times the others are divided by: the base, and torch in every form that ran."""
        return tuple(
            contender
            for contender in self.contenders
            if contender == self.base or (contender.kind == "torch" and not contender.failed)
        )

    def utilization(self, contender: Contender) -> float | None:
        """The contender's arithmetic per second as a share of the matrix product in its precision.

        Or in float32 where that is faster: a CPU has no products in float16 worth the name, and
        ONNX Runtime makes none.
        """
        rates = [
            self.matmul_tmac_s.get(precision, 0.0) for precision in (contender.precision, "fp32")
        ]
        median, peak = contender.percentile(50), max(rates)
        return contender.gmac / 1e3 / median / peak if median and peak else None

    def as_dict(self) -> dict[str, Any]:
        """Everything, the figures that follow included."""
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
            "utilization": self.utilization(contender),
            "times_as_fast_as": {rival.name: times(rival, contender) for rival in self.rivals},
        }


def times(rival: Contender, contender: Contender) -> float | None:
    """How many times as fast as a rival that ran a contender is."""
    theirs, ours = rival.percentile(50), contender.percentile(50)
    return None if theirs is None or ours is None else theirs / ours
