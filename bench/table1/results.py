"""What a benchmark run leaves behind: rows and where they come from, in one JSON file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...runtime.files import write_whole

FORMAT = 1


@dataclass(frozen=True)
class Stage:
    """One network in a row."""

    name: str
    calls: int
    parameters: int
    gmac: float
    """Per call, 1e9 multiply-accumulates."""

    official_gmac: float | None
    """The same, read in the official code."""

    seconds: float | None = None
    """Median of one call."""

    cold_s: float | None = None
    """The first call after loading."""

    load_s: float | None = None
    """Building and loading with torch, loading the exported file with onnx."""

    export_s: float | None = None
    """Building and exporting, for onnx; done before, in another process."""


@dataclass(frozen=True)
class Row:
    """One system under one protocol on one backend; what was not measured is None."""

    system: str
    title: str
    protocol: str
    """``count``, ``replay`` or ``compose``."""

    backend: str
    """``torch``, ``torch-compile``, ``onnx``; ``-`` for ``count``."""

    device: str
    """``cpu``, ``cuda``; ``meta`` for ``count``."""

    precision: str
    size: int
    """Side of the LR image."""

    reduced: bool
    """Narrow networks, for tests: the figures mean nothing."""

    parameters: int
    """The sum that Table 1 prints, counted."""

    official_parameters: float
    """Millions, read in the official code."""

    gmac: float
    """Per image, 1e9 multiply-accumulates, counted."""

    official_gmac: float
    paper_parameters: float | None
    """Millions; Table 1."""

    paper_latency_s: float | None
    """Table 1, V100."""

    paper_maniqa: float | None
    """Table 1, Real200."""

    note: str = ""
    stages: tuple[Stage, ...] = ()
    latency_s: float | None = None
    """Median (p50) of an image; the sum of calls times medians under ``compose``."""

    p90_s: float | None = None
    cold_s: float | None = None
    """First image, loading not included; under ``compose`` with every network's first call cold."""

    loop_s: float | None = None
    """Of ``latency_s``, what is spent outside the networks."""

    io_s: float | None = None
    """Reading and writing the image file; not in ``latency_s``."""

    peak_bytes: int | None = None
    """Peak memory: of the process on the CPU, of the device on a GPU."""

    tmac_s: float | None = None
    """1e12 multiply-accumulates per second."""

    utilization: float | None = None
    """``tmac_s`` as a share of this machine's measured matrix product in the same precision."""

    warmup: int = 0
    repetitions: int = 0
    failed: str = ""
    """Why the row could not be measured; everything measured is then None."""

    @property
    def key(self) -> tuple[str, str, str, str, str, int, bool]:
        """What makes a row the same measurement."""
        return (
            self.system,
            self.protocol,
            self.backend,
            self.device,
            self.precision,
            self.size,
            self.reduced,
        )


@dataclass(frozen=True)
class Results:
    """Rows of one machine and state of the code."""

    provenance: dict[str, Any]
    """machine, platform, cpu, cores, threads, memory_bytes, gpu, driver, versions, commit, sources,
    command, time, and matmul_tmac_s by device and precision, such as ``cpu fp32``."""

    rows: tuple[Row, ...] = ()
    format: int = field(default=FORMAT)

    def with_row(self, row: Row) -> "Results":
        """With this row in the place of an earlier one of the same key, or at the end."""
        rows = {old.key: old for old in self.rows} | {row.key: row}
        return Results(self.provenance, tuple(rows.values()))

    def save(self, path: Path) -> None:
        """Write the file; it is there whole or not at all."""
        write_whole(path, f"{json.dumps(asdict(self), indent=1)}\n".encode())


def load_results(path: Path) -> Results:
    """Read a results file. Raises ValueError where it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, not {FORMAT}")
        return Results(document["provenance"], tuple(_row(row) for row in document["rows"]))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be a results file of dossr-bench: {error}") from error


def _row(values: dict[str, Any]) -> Row:
    stages: Sequence[dict[str, Any]] = values.pop("stages")
    return Row(**values, stages=tuple(Stage(**stage) for stage in stages))
