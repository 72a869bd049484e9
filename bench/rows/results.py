"""Results of a run: rows and their provenance, in one JSON file."""

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ...runtime.files import write_whole
from ..measure.calls import NetworkTime
from .table import TABLE1, TABLES


class Stage(Struct, frozen=True, forbid_unknown_fields=True):
    """One network in a row."""

    name: str
    calls: int
    parameters: int
    gmac: float
    """Per call, 1e9 multiply-accumulates."""

    official_gmac: float | None
    """As determined from the official code."""

    seconds: float | None = None
    """Median of one call."""

    cold_s: float | None = None
    """The first call after loading."""

    load_s: float | None = None
    """Building and loading in torch; loading the exported file in onnx and openvino."""

    export_s: float | None = None
    """Building and exporting for onnx and openvino, earlier and in another process."""


class Row(Struct, frozen=True, forbid_unknown_fields=True):
    """One system under one protocol on one backend; None where nothing was measured."""

    system: str
    title: str
    protocol: str
    """``count``, ``replay`` or ``compose``."""

    backend: str
    """``torch``, ``torch-compile``, ``onnx``, ``openvino``; ``-`` for ``count``."""

    device: str
    """``cpu``, ``cuda``; ``meta`` for ``count``."""

    precision: str
    size: int
    """Side of the LR image."""

    reduced: bool
    """Narrow networks for tests: the figures are meaningless."""

    parameters: int
    """Counted; the sum that Table 1 prints."""

    official_parameters: float
    """Millions, determined from the official code."""

    gmac: float
    """Counted; 1e9 multiply-accumulates per image."""

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
    """Median (p50) of an image; under ``compose`` the sum of calls times medians, plus the loop."""

    p90_s: float | None = None
    cold_s: float | None = None
    """First image without loading; under ``compose`` with the first call of each network cold."""

    loop_s: float | None = None
    """The part of ``latency_s`` outside the networks."""

    io_s: float | None = None
    """Reading and writing the image file; not included in ``latency_s``."""

    peak_bytes: int | None = None
    """Peak memory: of the process on the CPU, of the device on a GPU."""

    tmac_s: float | None = None
    """1e12 multiply-accumulates per second."""

    utilization: float | None = None
    """``tmac_s`` as a share of the measured matrix product in the same precision."""

    warmup: int = 0
    repetitions: int = 0
    failed: str = ""
    """Why the row could not be measured; all measured fields are then None."""

    paper: dict[str, float] = {}
    """Figures that the paper's Table 5 or 6 prints for this row, by data set and metric."""

    @property
    def key(self) -> tuple[str, str, str, str, str, int, bool]:
        """Identifies the measurement; a new row replaces one with the same key."""
        return (
            self.system,
            self.protocol,
            self.backend,
            self.device,
            self.precision,
            self.size,
            self.reduced,
        )


class Results(Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of one machine and one state of the code."""

    provenance: dict[str, Any]
    """machine, platform, cpu, cores, threads, memory_bytes, gpu, driver, versions, commit, sources,
    command, time, and matmul_tmac_s by device and precision, such as ``cpu fp32``."""

    rows: tuple[Row, ...] = ()
    format: Literal[1] = 1
    table: str = TABLE1.name
    """The table whose rows these are, a name in TABLES."""

    def with_row(self, row: Row) -> "Results":
        """Return the results with this row, in place of an earlier one with the same key."""
        rows = {old.key: old for old in self.rows} | {row.key: row}
        return replace(self, rows=tuple(rows.values()))

    def with_provenance(self, **changes: Any) -> "Results":
        """Return the results with these entries of the provenance changed."""
        return replace(self, provenance={**self.provenance, **changes})

    def encode(self) -> bytes:
        """Return the results as JSON. Raises TypeError where a value has no JSON form."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def save(self, path: Path) -> None:
        """Write the file completely or not at all."""
        write_whole(path, self.encode())


class _Header(Struct):
    format: Literal[1]


def load_results(path: Path) -> Results:
    """Read a results file. Raises ValueError, which names the field that is wrong."""
    try:
        document = path.read_bytes()
        msgspec.json.decode(document, type=_Header)  # required here, so that no other file passes
        results = msgspec.json.decode(document, type=Results)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ValueError(f"{path} must be a results file of dossr-bench: {error}") from error
    if results.table not in TABLES:
        raise ValueError(f"{path} must be of {', '.join(TABLES)}, got '{results.table}'")
    return results


def timed_stage(stage: Stage, time: NetworkTime, export_s: float | None) -> Stage:
    """Return a stage with its times."""
    return replace(
        stage, seconds=time.seconds, cold_s=time.cold_s, load_s=time.load_s, export_s=export_s
    )
