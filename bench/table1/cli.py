"""``dossr-bench table1``: count or time the systems of the paper's Table 1 on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.terminal import Command
from ..rows.command import measure_table, measuring_options
from ..rows.table import TABLE1

if TYPE_CHECKING:
    from ..rows.results import Results


@click.command("table1", cls=Command)
@measuring_options(TABLE1)
def table1(**options: Any) -> None:
    """Count or time the systems of the paper's Table 1 on this machine.

    Every measurement runs in a fresh process. A row that fails or lacks memory states the reason,
    and the other rows continue. With --json, an interrupted run resumes.

    \b
    Examples:
      dossr-bench table1 --protocol count
      dossr-bench table1 --backend torch --backend onnx --json cpu.json --out report
      dossr-bench table1 --device cuda --backend torch-fp16 --backend onnx-fp16 --json gpu.json

    Exit code: 0 done, 1 some rows failed (each is named), 2 wrong use.
    """
    measure_table(TABLE1, _report, **options)


def _report(results: "Results", out: Path | None) -> Iterator[str]:
    from .report import terminal_table, write_report

    yield terminal_table(results)
    for path in write_report(results, out) if out else []:
        yield str(path)
