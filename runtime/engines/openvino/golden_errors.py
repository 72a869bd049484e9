"""Which stages may compute in bfloat16 or 8-bit integers: those that give their golden vectors in it.

bfloat16 keeps 8 bits of the fraction, an integer has 8 in all. What that costs depends on weights and
processor, so each stage runs its golden vectors once, and the error is remembered in the user's cache
folder.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from .... import __version__
from ...bundle import CONDITION, GOLDEN, Bundle, GoldenCase, relative_error
from ...bundle.golden import largest_image, smallest
from ...bundle.verified import cache_folder
from ...errors import OutOfMemoryError
from ...files import write_whole
from ...tensors import Array
from .core import capabilities, version
from .graph import Graph

BOUNDS: Mapping[str, float] = {
    "restorer": 1e-2,
    "encoder": 5e-2,
    CONDITION: 5e-2,
    "denoiser": 5e-2,
    "decoder": 1.5e-2,
}
"""Largest relative error of a stage in bfloat16 or int8, in the Euclidean norm. Noise of this size in all
stages at once leaves the demo's image 39 dB from float32. Pixels take less than latents, which the decoder
smooths."""

Run = Callable[..., Mapping[str, Array]]


def golden_errors(
    bundle: Bundle,
    graphs: Mapping[str, Graph],
    how: tuple[str, ...],
    open: Callable[[str], Run],
    log: Callable[[str], None],
) -> dict[str, float]:
    """Return the largest error of each stage in a precision against its golden vectors.

    ``graphs`` are the stages to judge, ``how`` the precision and the device; ``open`` returns a stage so. An error is infinite if a
    value is not finite, or if the bundle has no golden vectors. ``log`` is told before the first
    measurement, which takes a run of each stage. A stage that runs out of memory for the largest image is judged
    by the smallest case, without a record; if that does not fit either, its error is infinite.
    """
    precision = how[0]
    golden = {name: f.sha256 for name, f in bundle.manifest.files.items() if name == GOLDEN}
    records = {stage: _record({**graph.files, **golden}, how) for stage, graph in graphs.items()}
    known = {stage: _read(record) for stage, record in records.items()}
    errors = {stage: error for stage, error in known.items() if error is not None}
    if len(errors) < len(records):
        log(f"comparing {precision} with the golden vectors, once for this bundle on this device")
    for stage in records.keys() - errors.keys():
        cases = bundle.golden(stage)
        try:
            errors[stage] = _measure(partial(open, stage), largest_image(cases))
        except OutOfMemoryError:
            errors[stage] = _measure_smallest(partial(open, stage), cases)
        else:
            _write(records[stage], errors[stage])
    return errors


def over_bound(errors: Mapping[str, float]) -> str:
    """Return which errors are over the bound of their stage, in words; empty if none is."""
    return ", ".join(
        f"{stage} {error:.1e} of {BOUNDS[stage]:.1e}"
        for stage, error in errors.items()
        if not error <= BOUNDS[stage]
    )


def _measure(open: Callable[[], Run], cases: Sequence[GoldenCase]) -> float:
    if not cases:
        return math.inf
    run, errors = open(), []
    for case in cases:
        found = run(**case.inputs)
        errors += [relative_error(found[name], exact) for name, exact in case.outputs.items()]
    return max(error if math.isfinite(error) else math.inf for error in errors)


def _measure_smallest(open: Callable[[], Run], cases: Sequence[GoldenCase]) -> float:
    try:
        return _measure(open, smallest(cases))
    except OutOfMemoryError:
        return math.inf


def _read(record: Path | None) -> float | None:
    if record is not None:
        with suppress(OSError, ValueError):
            text = record.read_text()
            return float(text) if text.endswith("\n") else None  # it was cut
    return None


def _write(record: Path | None, error: float) -> None:
    if record is not None:
        with suppress(OSError):  # it is measured again
            record.parent.mkdir(parents=True, exist_ok=True)
            write_whole(record, f"{error}\n".encode())


def _record(hashes: Mapping[str, str], how: tuple[str, ...]) -> Path | None:
    """Return the file with a stage's error on this device; None without a home folder."""
    facts = [*sorted(hashes.items()), __version__, version(), *how, *capabilities()]
    name = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]
    with suppress(RuntimeError):
        return cache_folder() / "openvino" / f"{name}.{how[0]}"
    return None
