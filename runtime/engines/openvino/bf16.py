"""Which stages may compute in bfloat16: those that give their golden vectors in it.

bfloat16 keeps 8 bits of the fraction. What that costs depends on the weights, so each stage runs its
golden vectors once on a processor, and the error is remembered in the user's cache folder.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from ...bundle import Bundle, GoldenCase, relative_error
from ...bundle.golden import largest_image
from ...bundle.verified import cache_folder
from ...files import write_whole
from ...tensors import Array
from .core import capabilities, processor, version

BOUND = 5e-2
"""Largest relative error of a stage in bfloat16, in the Euclidean norm; see docs/openvino.md."""

Run = Callable[..., Mapping[str, Array]]


def bf16_error(
    bundle: Bundle, stage: str, hashes: Mapping[str, str], open: Callable[[], Run]
) -> float:
    """Return the largest error of a stage in bfloat16 against its golden vectors, measured once.

    ``open`` returns the stage in bfloat16. The error is infinite if a value is not finite or if the
    bundle has no golden vectors.
    """
    record = _record(hashes)
    if record is not None:
        with suppress(OSError, ValueError):
            return float(record.read_text())
    error = _measure(open, largest_image(bundle.golden(stage)))
    if record is not None:
        with suppress(OSError):  # it is measured again
            record.parent.mkdir(parents=True, exist_ok=True)
            write_whole(record, f"{error}\n".encode())
    return error


def _measure(open: Callable[[], Run], cases: list[GoldenCase]) -> float:
    if not cases:
        return math.inf
    run, errors = open(), []
    for case in cases:
        found = run(**case.inputs)
        errors += [relative_error(found[name], exact) for name, exact in case.outputs.items()]
    return max(error if math.isfinite(error) else math.inf for error in errors)


def _record(hashes: Mapping[str, str]) -> Path | None:
    """Return the file with a stage's error on this processor; None without a home folder."""
    facts = [*sorted(hashes.items()), version(), processor(), *capabilities()]
    name = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]
    with suppress(RuntimeError):
        return cache_folder() / "openvino" / f"{name}.bf16"
    return None
