"""``dossr-bench formulations`` and ``dossr-bench samplers``: the paper's Tables 5 and 6."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.terminal import Command
from ..rows.command import measure_table, measuring_options
from ..rows.table import TABLE5, TABLE6

if TYPE_CHECKING:
    from ..rows.results import Results


@click.command("formulations", cls=Command)
@measuring_options(TABLE5)
def formulations(**options: Any) -> None:
    """Count or time the formulations of the paper's Table 5 on DoSSR's network.

    ColdDiff with a blur of latents, ResShift's shift and FlowIE's rectified flow, each with its own
    forward process and sampler, beside DoSSR with 5 and 1 steps. Weights are synthetic: the command
    measures cost; the paper's quality is printed beside it.

    \b
    Examples:
      dossr-bench formulations --protocol count
      dossr-bench formulations --backend torch --backend onnx --json cpu.json --out report

    Exit code: 0 done, 1 some rows failed (each is named), 2 wrong use.
    """
    measure_table(TABLE5, _report, **options)


@click.command("samplers", cls=Command)
@measuring_options(TABLE6)
def samplers(**options: Any) -> None:
    """Count or time the samplers of the paper's Table 6, five steps each.

    Without a domain shift, from noise: DDIM with eta 1, EDM's stochastic sampler, DPM-Solver++ of
    order 3. With it: the solver of DoSSR in orders 1, 2 and 3. Weights are synthetic: the command
    measures cost; the paper's quality is printed beside it.

    \b
    Examples:
      dossr-bench samplers --protocol count
      dossr-bench samplers --backend torch --backend onnx --json cpu.json --out report

    Exit code: 0 done, 1 some rows failed (each is named), 2 wrong use.
    """
    measure_table(TABLE6, _report, **options)


def _report(results: "Results", out: Path | None) -> Iterator[str]:
    from .output import terminal_table, write_report

    yield terminal_table(results)
    for path in write_report(results, out) if out else []:
        yield str(path)
