"""Which products stay in float: as few as the stage's bound allows, the costliest first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ...runtime.bundle import GoldenCase
from ...runtime.terminal import Progress
from ..errors import VerificationError
from ..graph.int8 import Range, products, quantize
from .calibration import Scratch, largest_error, measure_costs, measure_ranges
from .samples import Inputs

AIM = 0.8
"""Share of the bound that a network in 8 bits may use here; another processor rounds differently."""

MOST_HELD = 1 / 3
"""Share of the products that may stay in float; with more, 8 bits gain little."""


@dataclass(frozen=True)
class Int8Network:
    """A stage in 8 bits."""

    model: ir.Model
    products: int
    held: tuple[str, ...]
    """The nodes that stay in float, the costliest first."""

    error: float
    """The largest relative error of its outputs against torch and against float32."""


def find_network(
    stage: str,
    scratch: Scratch,
    samples: Sequence[Inputs],
    judges: Sequence[GoldenCase],
    bound: float,
    progress: Progress,
) -> Int8Network:
    """Return a stage in 8 bits whose outputs are within ``AIM`` of a relative error of ``bound``.

    ``samples`` are the inputs to calibrate on, the smallest first; ``judges`` took no part in it.
    Raise VerificationError if more than ``MOST_HELD`` of the products would stay in float.
    """
    count = len(products(scratch.load()))
    with progress.phase(f"{stage}: ranges", len(samples)) as advance:
        ranges = measure_ranges(scratch, samples, advance)
    with progress.phase(f"{stage}: cost of each product", count) as advance:
        costs = measure_costs(scratch, ranges, samples[0], advance)
    costliest = sorted(costs, key=lambda node: -costs[node])
    number, most = _predicted(list(costs.values()), AIM * bound), int(MOST_HELD * count)
    with progress.phase(f"{stage}: choosing products") as advance:
        while True:
            held = tuple(costliest[: min(number, most)])
            error = _error(scratch, ranges, held, judges)
            advance(1)
            if error <= AIM * bound:
                return Int8Network(_in_8_bits(scratch, ranges, held), count, held, error)
            if number >= most:
                break
            number += max(1, number // 2)
    raise VerificationError(
        f"the {stage} in int8 must be within {AIM * bound:.1e} of float32 with {most} of its {count} "
        f"products in float, got {error:.1e}"
    )


def _predicted(costs: Sequence[float], aim: float) -> int:
    """Return how many of the costliest to hold so that the others, as independent noise, meet the aim."""
    rest = sorted(costs, reverse=True)
    return next(n for n in range(len(rest) + 1) if math.hypot(*rest[n:]) <= aim)


def _error(
    scratch: Scratch,
    ranges: Mapping[str, Range],
    held: Sequence[str],
    judges: Sequence[GoldenCase],
) -> float:
    run = scratch.runner(_in_8_bits(scratch, ranges, held), f"{len(held)}-held", judged=True)
    return max(largest_error(run(**case.inputs), case.outputs) for case in judges)


def _in_8_bits(scratch: Scratch, ranges: Mapping[str, Range], held: Sequence[str]) -> ir.Model:
    model = scratch.load()
    quantize(model, ranges, held)
    return model
