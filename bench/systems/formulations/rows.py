"""The rows of the paper's Table 5 as systems; DoSSR's two are those of Table 1."""

from ..procedure import Sample, Sampler, sampled_system
from ..system import System
from .colddiff import ColdDiff
from .flow import RectifiedFlow
from .shifting import ResShift

STEPS = 5


def _row(name: str, title: str, sample: Sample, calls: int, size: int, reduced: bool) -> System:
    return sampled_system(name, title, Sampler(calls, sample), size, reduced)


def colddiff(size: int = 128, reduced: bool = False) -> System:
    """Return ColdDiff with latent blur, 5 steps."""
    return _row("colddiff-5", "ColdDiff-5", ColdDiff(STEPS).sample, STEPS, size, reduced)


def resshift(size: int = 128, reduced: bool = False) -> System:
    """Return ResShift's formulation on DoSSR's network, 5 steps."""
    return _row("resshift-5", "ResShift-5", ResShift(STEPS).sample, STEPS, size, reduced)


def flowie(size: int = 128, reduced: bool = False) -> System:
    """Return FlowIE's rectified flow from x_lr, 1 step."""
    return _row("flowie-1", "FlowIE-1", RectifiedFlow().sample, 1, size, reduced)
