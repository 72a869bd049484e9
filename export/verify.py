"""Compares each exported file with torch before a bundle is made."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..runtime.engines.device import load_engine
from ..runtime.engines.tensorrt.verify import relative_error
from ..runtime.errors import EngineError
from ..solvers import NoiseLevels, released_schedule
from .errors import VerificationError
from .stages import Arrays, Stage

BOUNDS = {"fp32": 1e-4, "fp16": 1e-2}
"""Largest allowed relative error of an output, in the Euclidean norm, by precision."""


@dataclass(frozen=True)
class Case:
    """One run of one stage: its inputs and torch's outputs."""

    inputs: Arrays
    outputs: Arrays
    time: int | None = None


@dataclass(frozen=True)
class Row:
    """One comparison, as recorded in the manifest."""

    stage: str
    output: str
    time: int | None
    shape: tuple[int, ...]
    error: float
    """||onnx - torch|| / ||torch||."""

    bound: float

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values, for the manifest."""
        return asdict(self)


@torch.no_grad()
def reference(stage: Stage, network: nn.Module, inputs: Arrays, time: int | None = None) -> Case:
    """Return what torch gives for these inputs of a stage."""
    results = network(*(torch.from_numpy(inputs[name]) for name in stage.inputs))
    results = results if isinstance(results, tuple) else (results,)
    outputs = {name: r.numpy() for name, r in zip(stage.outputs, results, strict=True)}
    return Case(inputs, outputs, time)


def compare(
    stage: Stage,
    path: Path,
    cases: Sequence[Case],
    bound: float,
    advance: Callable[[int], None],
) -> list[Row]:
    """Run the file on every case; raise VerificationError at the first error above the bound."""
    rows = []
    try:
        engine = load_engine(path, "cpu")
        for case in cases:
            results = engine.run(**case.inputs)
            for name, expected in case.outputs.items():
                error = relative_error(results[name], expected)
                row = Row(stage.name, name, case.time, expected.shape, error, bound)
                if not error <= bound:  # also where the error is not a number
                    raise VerificationError(_failure(path, row))
                rows.append(row)
            advance(1)
    except EngineError as error:
        raise VerificationError(f"{path.name} cannot be run by ONNX Runtime: {error}") from error
    return rows


def grid(steps: Sequence[int], levels: NoiseLevels) -> list[int]:
    """Return every time at which one of the step counts runs the denoiser, noisiest first."""
    times = {int(t) for n in steps for t in released_schedule(n, levels).times[1:]}
    return sorted(times, reverse=True)


def table(rows: Sequence[Row]) -> str:
    """Return the largest error of each stage, output and time over all shapes, as lines of text."""
    worst: dict[tuple[str, str, int | None], Row] = {}
    for row in rows:
        key = (row.stage, row.output, row.time)
        if key not in worst or row.error > worst[key].error:
            worst[key] = row
    lines = [f"{'stage':<10} {'output':<9} {'time':>4}  {'error':>8}  {'bound':>8}"]
    for row in worst.values():
        time = "" if row.time is None else str(row.time)
        lines.append(
            f"{row.stage:<10} {row.output:<9} {time:>4}  {row.error:8.1e}  {row.bound:8.1e}"
        )
    return "\n".join(lines)


def _failure(path: Path, row: Row) -> str:
    at = "" if row.time is None else f" at time {row.time}"
    if np.isnan(row.error):
        return f"{path.name} must give finite numbers of shape {row.shape} in '{row.output}'{at}"
    return (
        f"{path.name} differs from torch by {row.error:.1e} in '{row.output}'{at} "
        f"(allowed {row.bound:.1e})"
    )
