"""``dossr-bench sizes``: seconds and peak memory of a bundle over image sizes, as its user gets them."""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import msgspec

from ..runtime.bundle import DEMO, MANIFEST, read_manifest
from ..runtime.errors import BundleError
from ..runtime.options import TILE
from ..runtime.tensors import SCALE
from ..runtime.terminal import Command, Progress, Terminal
from .folders import make_folders
from .measure.calls import PipelineTime, TimeBundle, least_warmup
from .measure.process import CallError, cache_in, run
from .rounding import gibibytes, significant
from .sides import Side, device_option, find_sides, precision_option, precision_text
from .tables import markdown_table

_SIZES = (64, 128, 256, 512)
_HEAD = (
    "bundle, precision, device", "LR side", "image (s)", "s per megapixel", "peak (GiB)",
    "of it mapped files (GiB)", "GiB per megapixel",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A bundle on one side with images of one size."""

    bundle: str
    side: Side
    size: int
    """Side of the LR image."""

    time: PipelineTime | None = None
    failed: str = ""
    """Why there are no figures; empty where there are."""

    @property
    def name(self) -> str:
        """Bundle, precision and device."""
        taken = self.time.precisions if self.time else {}
        return f"{self.bundle}, {precision_text(self.side.precision, taken)}, {self.side.device}"

    @property
    def megapixels(self) -> float:
        """1e6 pixels of the result."""
        return (self.size * SCALE) ** 2 / 1e6

    @property
    def seconds(self) -> float | None:
        """Median of the timed images; the first image where there is no other."""
        return statistics.median(self.time.seconds or [self.time.first_s]) if self.time else None

    @property
    def memory_bytes(self) -> int | None:
        """Peak of the process on a CPU, of the device on a GPU."""
        return self.time.memory_bytes if self.time else None

    def per_megapixel(self, value: float | None) -> float | None:
        """Divide by the megapixels of the result."""
        return None if value is None else value / self.megapixels

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and all derived figures."""
        return {
            "bundle": self.bundle,
            **asdict(self.side),
            "size": self.size,
            "failed": self.failed,
            "p50_s": self.seconds,
            "seconds_per_megapixel": self.per_megapixel(self.seconds),
            "bytes_per_megapixel": self.per_megapixel(self.memory_bytes),
            **(msgspec.to_builtins(self.time) if self.time else {}),
        }


@click.command("sizes", cls=Command)
@click.argument("bundles", nargs=-1, metavar="[BUNDLE]...",
                type=click.Path(exists=True, path_type=Path))  # fmt: skip
@device_option
@precision_option
@click.option("--size", "sizes", type=click.IntRange(1), multiple=True, default=_SIZES,
              show_default=True, help="Side of the LR image in pixels; may be repeated.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(0), default=1, show_default=True,
              help="Timed images after the first, on a GPU after a warm-up; 0: the first is timed.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def sizes(
    bundles: tuple[Path, ...],
    devices: tuple[str, ...],
    precisions: tuple[str, ...],
    sizes: tuple[int, ...],
    steps: int,
    repetitions: int,
    file: Path | None,
) -> None:
    """Measure seconds and peak memory per megapixel of the result, by size of the image.

    Every bundle (by default the built-in demo model) runs on every --device in every --precision with
    images of every --size, in the default tiles, each in a process of its own.

    \b
    Examples:
      dossr-bench sizes
      dossr-bench sizes bundle bundle16 --device cpu --device openvino --json sizes.json

    Exit code: 0 done, 1 some rows failed (each says why), 2 wrong use.
    """
    sides = find_sides(devices, precisions)
    make_folders(file and file.parent)
    rows = [
        (row, call)
        for path in bundles or (DEMO,)
        for row, call in planned(path, sides, sizes, (steps, repetitions))
    ]
    found = [
        measured(row, call, f"[{n}/{len(rows)}] {row.name}, {row.size} x {row.size}", Terminal())
        for n, (row, call) in enumerate(rows, 1)
    ]
    click.echo(table(found))
    click.echo(f"\n{steps} steps, tiles of {TILE}; seconds of an image without files")
    if file is not None:
        from .measure.provenance import save

        save({"steps": steps, "tile": TILE, "rows": [row.as_dict() for row in found]}, file)
    if any(row.failed for row in found):
        sys.exit(1)


def planned(
    path: Path, sides: Sequence[Side], sizes: Sequence[int], counts: tuple[int, int]
) -> list[tuple[Row, TimeBundle]]:
    """Return the rows of a bundle and the calls that measure them; ``counts``: steps, repetitions.

    Raises UsageError for what is no bundle.
    """
    try:
        manifest = read_manifest(path / MANIFEST)
    except BundleError as error:
        raise click.UsageError(str(error)) from error
    name = "demo" if path == DEMO else str(path)
    call = TimeBundle(
        bundle=str(path),
        variant="onnx",
        tile=TILE,
        steps=counts[0],
        repetitions=counts[1],
        by_stage=False,
        need=sum(record.size for record in manifest.files.values()),
    )
    return [
        (
            Row(name, side, size),
            msgspec.structs.replace(
                call,
                device=side.device,
                precision=side.precision,
                size=size,
                warmup=least_warmup(side.device) if call.repetitions else 0,
            ),
        )
        for side, size in product(sides, sizes)
    ]


def measured(row: Row, call: TimeBundle, label: str, progress: Progress) -> Row:
    """Return a row with its figures, or with the reason why it failed."""
    with (
        tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder,
        progress.phase(label, 2 + call.warmup + call.repetitions) as advance,
    ):
        try:
            return replace(row, time=run(call, advance, cache_in(Path(folder))))
        except CallError as error:
            return replace(row, failed=str(error))


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    return markdown_table(_HEAD, map(_cells, rows))


def _cells(row: Row) -> list[str]:
    seconds = f"failed: {row.failed}" if row.failed else significant(row.seconds)
    memory = row.memory_bytes
    return [
        row.name,
        str(row.size),
        seconds,
        significant(row.per_megapixel(row.seconds)),
        gibibytes(memory),
        gibibytes(row.time.mapped_bytes if row.time else None),
        significant(row.per_megapixel(None if memory is None else memory / 2**30)),
    ]
