"""The systems of Table 1, by name."""

from collections.abc import Callable
from functools import partial

from .dasr import dasr
from .diffbir import diffbir
from .dossr import dossr
from .gan import bsrgan, ldl, real_esrgan
from .resshift import resshift
from .seesr import seesr
from .stablesr import stablesr
from .system import System

_BUILDERS: dict[str, Callable[[int, bool], System]] = {
    "bsrgan": bsrgan,
    "real-esrgan": real_esrgan,
    "ldl": ldl,
    "dasr": dasr,
    "stablesr-200": stablesr,
    "resshift-15": resshift,
    "diffbir-50": diffbir,
    "seesr-50": seesr,
    "dossr-1": partial(dossr, 1),
    "dossr-3": partial(dossr, 3),
    "dossr-5": partial(dossr, 5),
    "dossr-7": partial(dossr, 7),
}
SYSTEMS = tuple(_BUILDERS)
"""Names, in the order of the table."""


def load_system(name: str, size: int = 128, reduced: bool = False) -> System:
    """The system for square LR images of ``size`` pixels, a multiple of 64.

    ``reduced``: the same procedure with narrow networks, for tests; its figures mean nothing.
    Raises ValueError for a name that is not in SYSTEMS.
    """
    if name not in _BUILDERS:
        raise ValueError(f"system must be one of {', '.join(SYSTEMS)}, got '{name}'")
    return _BUILDERS[name](size, reduced)
