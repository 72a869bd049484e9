"""Golden vectors: real inputs of a stage and torch's outputs, which every engine must reproduce.

``golden.npz`` holds each array once: an output is also the input of later stages.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BundleError, EngineError
from ..tensors import Array, TensorSpec
from .manifest import GoldenRecord, Manifest, Precision

BOUNDS: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2}
"""Largest relative error of an engine's output, in the Euclidean norm, by the bundle's precision."""


_LARGEST = 1 << 30  # bytes of all arrays; typical bundles have 10 MB
_DAMAGE = (EOFError, zipfile.BadZipFile, zlib.error)


class DeviationError(EngineError):
    """An engine computes something else than torch."""


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class GoldenCase:
    """One run of one stage, float32 arrays by tensor name."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    time: int | None = None
    """The network time, for the denoiser."""


def write_golden(
    path: Path, cases: Mapping[str, Sequence[GoldenCase]]
) -> dict[str, list[GoldenRecord]]:
    """Write the cases of all stages; return their records for the manifest."""
    arrays: dict[str, Array] = {}

    def key(array: Array) -> str:
        shape = "x".join(map(str, array.shape))
        name = f"{shape}-{hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
        arrays[name] = array
        return name

    records = {
        stage: [
            GoldenRecord(
                {name: key(array) for name, array in case.inputs.items()},
                {name: key(array) for name, array in case.outputs.items()},
                case.time,
            )
            for case in runs
        ]
        for stage, runs in cases.items()
    }
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # its stub mistakes the arrays
    return records


def read_golden(path: Path, manifest: Manifest, stage: str) -> list[GoldenCase]:
    """Read the cases of one stage. Raise BundleError if the file does not hold what the stage takes."""
    records = manifest.golden.get(stage, [])
    if not records:
        return []
    specs = manifest.stages[stage]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            _check_size(arrays.zip)
            return [
                GoldenCase(
                    {spec.name: _checked(arrays, record.inputs, spec) for spec in specs.inputs},
                    {spec.name: _checked(arrays, record.outputs, spec) for spec in specs.outputs},
                    record.time,
                )
                for record in records
            ]
    except (*_DAMAGE, OSError, ValueError, KeyError, RuntimeError, MemoryError) as error:
        raise BundleError(f"{path} is damaged: {error}; export the checkpoint again") from error


def _check_size(archive: zipfile.ZipFile) -> None:
    """Raise ValueError if the arrays would take more memory than golden vectors do."""
    size = sum(entry.file_size for entry in archive.infolist())
    if size > _LARGEST:
        raise ValueError(f"it must hold at most {_LARGEST} bytes, got {size}")


def _checked(arrays: Mapping[str, Array], keys: Mapping[str, str], spec: TensorSpec) -> Array:
    array = arrays[keys[spec.name]]
    spec.check(array)
    return array


def largest_image(cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the cases of the single image with the most pixels."""
    single = [case for case in cases if all(len(array) == 1 for array in case.inputs.values())]
    most = max(map(_numbers, single), default=0)
    return [case for case in single if _numbers(case) == most]


def smallest(cases: Sequence[GoldenCase]) -> list[GoldenCase]:
    """Return the case that needs the least memory; none of none."""
    return sorted(cases, key=_numbers)[:1]


def _numbers(case: GoldenCase) -> int:
    return max(array.size for array in case.inputs.values())


def check_golden(
    stage: str,
    run: Callable[..., Mapping[str, Array]],
    cases: Sequence[GoldenCase],
    bound: float,
) -> dict[str, float]:
    """Return the largest relative error of every output, ||found - exact|| / ||exact||.

    ``run`` takes and returns NumPy arrays by name. Raise DeviationError at the first error over the
    bound, or if a value is not finite.
    """
    worst: dict[str, float] = {}
    for case in cases:
        found = run(**case.inputs)
        for name, exact in case.outputs.items():
            error = relative_error(found[name], exact)
            if not error <= bound:  # also if it is NaN
                at = "" if case.time is None else f" at time {case.time}"
                raise DeviationError(
                    f"the {stage} must give '{name}'{at} within {bound:.0e} of torch, got {error:.1e}; "
                    "this engine cannot be used"
                )
            worst[name] = max(error, worst.get(name, 0.0))
    return worst


def relative_error(found: Array, exact: Array) -> float:
    """Return ||found - exact|| / ||exact|| in float64; NaN if shapes differ or values are not finite."""
    if found.shape != exact.shape or not np.isfinite(found).all():
        return float("nan")
    exact = exact.astype(np.float64)
    return float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-30))
