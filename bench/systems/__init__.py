"""The systems of Table 1, by name. A system's module is imported when the system is loaded."""

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
}
"""Module and function that build each system."""

SYSTEMS = tuple(_BUILDERS)
"""Names, in the order of Table 1."""


def load_system(name: str, size: int = 128, reduced: bool = False) -> "System":
    """Build the system for square LR images of ``size`` pixels, a multiple of 64.

    ``reduced``: the same procedure with narrow networks for tests; its figures are meaningless.
    Raises ValueError for a name that is not in SYSTEMS.
    """
    if name not in _BUILDERS:
        raise ValueError(f"system must be one of {', '.join(SYSTEMS)}, got '{name}'")
    module, function = _BUILDERS[name]
    system: System = getattr(import_module(f".{module}", __name__), function)(size, reduced)
    return system
