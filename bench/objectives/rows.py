"""The rows of the comparison: an objective of the training recipe, and a sampler for it."""

from collections.abc import Callable
from dataclasses import dataclass

from ...solvers import NoiseLevels
from ..rows.table import TABLE5, TABLE6
from ..systems.accelerated import ddim, dpm_solver, edm
from ..systems.dossr import ORDER, dos_sde
from ..systems.formulations.colddiff import ColdDiff
from ..systems.formulations.flow import RectifiedFlow
from ..systems.formulations.shifting import ResShift
from ..systems.procedure import Sample

MEASURE = "RealSR MANIQA"
"""The column that Tables 5 and 6 of the paper have in common."""


@dataclass(frozen=True)
class Row:
    """A sampler on the network that was trained for its objective."""

    system: str
    """The same row's name in Tables 5 and 6."""

    title: str
    objective: str
    sample: Callable[[NoiseLevels], Sample]

    @property
    def paper(self) -> float:
        """The paper's figure for MEASURE."""
        return {**TABLE6.paper, **TABLE5.paper}[self.system][MEASURE]


ROWS = (
    Row("dossr-5", "DoSSR-5", "dossr", lambda levels: dos_sde(5, ORDER, levels).sample),
    Row("dossr-1", "DoSSR-1", "dossr", lambda levels: dos_sde(1, ORDER, levels).sample),
    Row("resshift-5", "ResShift-5", "resshift", lambda _: ResShift(5).sample),
    Row("flowie-1", "FlowIE-1", "flow", lambda _: RectifiedFlow().sample),
    Row("colddiff-5", "ColdDiff-5", "colddiff", lambda _: ColdDiff(5).sample),
    Row("ddim", "DDIM-5", "ddpm", lambda levels: ddim(levels).sample),
    Row("edm", "EDM-5", "ddpm", lambda levels: edm(levels).sample),
    Row("dpm-solver-3", "DPM-Solver++-5", "ddpm", lambda levels: dpm_solver(levels).sample),
)
