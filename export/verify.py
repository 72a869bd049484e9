"""Compares each exported graph with torch before a bundle is made."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.bundle import GoldenCase, Target, relative_error
from ..runtime.engines.device import Host
from ..runtime.errors import EngineError
from .errors import VerificationError
from .rounded_engine import RoundedEngine

BOUNDS = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest allowed relative error of an output, in the Euclidean norm, by precision."""


@dataclass(frozen=True)
class Row:
    """One comparison, as recorded in the manifest."""

    stage: str
    target: Target
    output: str
    time: int | None
    shape: tuple[int, ...]
    error: float
    """||onnx - torch|| / ||torch||."""

    bound: float

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values, for the manifest."""
        return asdict(self)


def check_installed() -> None:
    """Raise ModuleNotFoundError unless ONNX Runtime is installed: before an export, not after minutes."""
    if find_spec("onnxruntime") is None:
        raise ModuleNotFoundError("No module named 'onnxruntime', which verifies the bundle")


def compare(
    stage: str,
    target: Target,
    path: Path,
    cases: Sequence[GoldenCase],
    bound: float,
    advance: Callable[[int], None],
) -> list[Row]:
    """Run a graph on every case; raise VerificationError at the first error above the bound."""
    rows = []
    try:
        engine = Host().open_file(path) if target == "cpu" else RoundedEngine(path)
        for case in cases:
            results = engine.run(**case.inputs)
            for name, expected in case.outputs.items():
                error = relative_error(results[name], expected)
                row = Row(stage, target, name, case.time, expected.shape, error, bound)
                if not error <= bound:  # also where the error is not a number
                    raise VerificationError(_failure(path, row))
                rows.append(row)
            advance(1)
    except EngineError as error:
        raise VerificationError(f"{path.name} cannot be run by ONNX Runtime: {error}") from error
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the largest error of each stage, output and target over all shapes and times."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        errors = worst.setdefault((row.stage, row.output), {})
        errors[row.target] = max(row.error, errors.get(row.target, 0.0))
    targets = list(dict.fromkeys(row.target for row in rows))
    lines = [f"{'stage':<10} {'output':<9}" + "".join(f"{name:>15}" for name in targets)]
    for (stage, output), errors in worst.items():
        cells = "".join(f"{errors[name]:15.1e}" for name in targets)
        lines.append(f"{stage:<10} {output:<9}{cells}")
    return "\n".join(lines)


def _failure(path: Path, row: Row) -> str:
    at = "" if row.time is None else f" at time {row.time}"
    if np.isnan(row.error):
        return f"{path.name} must give finite numbers of shape {row.shape} in '{row.output}'{at}"
    return (
        f"{path.name} differs from torch by {row.error:.1e} in '{row.output}'{at} "
        f"(allowed {row.bound:.1e})"
    )
