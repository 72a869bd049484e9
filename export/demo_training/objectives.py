"""The diffusion process of each objective."""

from collections.abc import Callable

from ...solvers import NoiseLevels
from ..processes.blur import Blur
from ..processes.diffusion import Diffusion, DomainShift
from ..processes.forward import Process
from ..processes.residual import ResidualShift
from ..processes.straight import Straight

STEPS = 5
"""Steps of ResShift, which is trained on the levels that it samples."""

_PROCESSES: dict[str, Callable[[NoiseLevels], Process]] = {
    "dossr": lambda levels: DomainShift(levels),
    "ddpm": lambda levels: Diffusion(levels),
    "colddiff": lambda levels: Blur(),
    "resshift": lambda levels: ResidualShift(STEPS),
    "flow": lambda levels: Straight(),
}


def process(objective: str, levels: NoiseLevels) -> Process:
    """Return the process of an objective of the recipe."""
    return _PROCESSES[objective](levels)
