"""The systems of the paper's Tables 1, 5 and 6, by name. A system's module is imported when it is loaded."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .system import System

_BUILDERS = {
    "bsrgan": ("gan", "bsrgan"),
    "real-esrgan": ("gan", "real_esrgan"),
    "ldl": ("gan", "ldl"),
    "dasr": ("dasr", "dasr"),
    "stablesr-200": ("stablesr", "stablesr"),
    "resshift-15": ("resshift", "resshift"),
    "diffbir-50": ("diffbir", "diffbir"),
    "seesr-50": ("seesr", "seesr"),
    "dossr-1": ("dossr", "dossr_1"),
    "dossr-3": ("dossr", "dossr_3"),
    "dossr-5": ("dossr", "dossr_5"),
    "dossr-7": ("dossr", "dossr_7"),
    "colddiff-5": ("formulations.rows", "colddiff"),
    "resshift-5": ("formulations.rows", "resshift"),
    "flowie-1": ("formulations.rows", "flowie"),
    "ddim": ("accelerated", "ddim_row"),
    "edm": ("accelerated", "edm_row"),
    "dpm-solver-3": ("accelerated", "dpm_solver_row"),
    "dos-sde-1": ("accelerated", "dos_sde_1"),
    "dos-sde-2": ("accelerated", "dos_sde_2"),
    "dos-sde-3": ("accelerated", "dos_sde_3"),
}
"""Module and function that build each system."""

SYSTEMS = (
    "bsrgan", "real-esrgan", "ldl", "dasr", "stablesr-200", "resshift-15", "diffbir-50", "seesr-50",
    "dossr-1", "dossr-3", "dossr-5", "dossr-7",
)  # fmt: skip
"""The rows of Table 1, in its order."""

FORMULATIONS = ("colddiff-5", "resshift-5", "dossr-5", "flowie-1", "dossr-1")
"""The rows of Table 5, in its order."""

SAMPLERS = ("ddim", "edm", "dpm-solver-3", "dos-sde-1", "dos-sde-2", "dos-sde-3")
"""The rows of Table 6, in its order."""


def load_system(name: str, size: int = 128, reduced: bool = False) -> "System":
    """Build the system for square LR images of ``size`` pixels, a multiple of 64.

    ``reduced``: the same procedure with narrow networks for tests; its figures are meaningless.
    Raises ValueError for a name that is in no table.
    """
    if name not in _BUILDERS:
        raise ValueError(f"system must be one of {', '.join(_BUILDERS)}, got '{name}'")
    module, function = _BUILDERS[name]
    system: System = getattr(import_module(f".{module}", __name__), function)(size, reduced)
    return system
