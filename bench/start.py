"""``dossr-bench start``: from the start of ``dossr-run`` to its end, for an image and for a folder."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from PIL import Image

from ..runtime.launch import python_command
from ..runtime.terminal import Advance, Command, Terminal
from .folders import make_folders
from .measure.contenders import lr_image
from .measure.process import CallError, cache_in
from .rounding import significant
from .sides import Side, device_option, find_sides, precision_option, precision_text
from .tables import markdown_table

_RUN = python_command("from dossr.runtime.launch import run; run()")
_HEAD = (
    "precision, device", "cold (s)", "warm (s)", "warm: speed-up over cpu", "folder (s an image)",
    "folder: speed-up over cpu",
)  # fmt: skip


@dataclass
class Row:
    """What the processes of one side took, in seconds from start to end."""

    side: Side
    precisions: Mapping[str, str] = field(default_factory=dict)
    """The precision that each stage computed in."""

    cold: float | None = None
    """One image, with empty caches."""

    warm: list[float] = field(default_factory=list)
    """One image, with the caches of the first process."""

    folder: float | None = None
    """A folder of images, divided by their number."""

    failed: str = ""
    """Why figures are missing; empty where none are."""

    @property
    def warm_median(self) -> float | None:
        """Median of ``warm``."""
        return statistics.median(self.warm) if self.warm else None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "device": self.side.device,
            "precision": self.side.precision,
            "precisions": dict(self.precisions),
            "cold_s": self.cold,
            "warm_s": self.warm,
            "warm_p50_s": self.warm_median,
            "folder_s_per_image": self.folder,
            "failed": self.failed,
        }


@click.command("start", cls=Command)
@click.argument("bundle", required=False, type=click.Path(exists=True, path_type=Path))
@device_option
@precision_option
@click.option("--size", type=click.IntRange(1), default=128, show_default=True,
              help="Side of the LR images in pixels.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--images", type=click.IntRange(1), default=20, show_default=True,
              help="Number of images in the folder.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1), default=3, show_default=True,
              help="Warm processes with one image.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def start(
    bundle: Path | None,
    devices: tuple[str, ...],
    precisions: tuple[str, ...],
    size: int,
    steps: int,
    images: int,
    repetitions: int,
    file: Path | None,
) -> None:
    """Time processes of dossr-run from start to end: one image cold, one image warm, a folder.

    BUNDLE is by default the built-in demo model. Cold means that the caches of dossr and of its
    engines are empty, warm that the first process has filled them; files of the bundle may be in the
    system's memory in both. Every device and precision has a row.

    \b
    Examples:
      dossr-bench start --device cpu --device openvino
      dossr-bench start bundle --device cpu --images 3 --json start.json

    Exit code: 0 done, 1 some rows failed (each says why), 2 wrong use.
    """
    rows = [Row(side) for side in find_sides(devices, precisions)]
    make_folders(file and file.parent)
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        options = ["--steps", str(steps), *(["--bundle", str(bundle.resolve())] if bundle else [])]
        runs = Runs(Path(folder), options, images)
        runs.write_images(size)
        with Terminal().phase("runs", len(rows) * (1 + repetitions + images)) as advance:
            measure(rows, runs, repetitions, advance)
    click.echo(table(rows))
    click.echo(
        f"\n{size} x {size} pixels, {steps} steps, from the start of a process to its end; warm: "
        f"median of {repetitions}; folder: {images} images"
    )
    if file is not None:
        from .measure.provenance import save

        figures = {"bundle": str(bundle or "demo"), "size": size, "steps": steps, "images": images}
        save({**figures, "rows": [row.as_dict() for row in rows]}, file)
    if any(row.failed for row in rows):
        sys.exit(1)


@dataclass(frozen=True)
class Runs:
    """Runs ``dossr-run`` with these options in a scratch folder; each side has its own caches."""

    scratch: Path
    options: Sequence[str]
    count: int
    """Number of images in the folder."""

    def write_images(self, size: int) -> None:
        """Write the inputs."""
        photo = Image.fromarray(lr_image(size))
        photo.save(self.scratch / "photo.png")
        (self.scratch / "photos").mkdir()
        for number in range(self.count):
            photo.save(self.scratch / "photos" / f"{number}.png")

    def image(self, row: Row, advance: Advance) -> float:
        """Upscale the image and return the seconds; the row learns the precisions."""
        seconds, printed = self._run(row.side, "photo.png", "upscaled.png", "--json")
        row.precisions = json.loads("\n".join(printed)).get("precision", {})
        advance(1)
        return seconds

    def folder(self, row: Row, advance: Advance) -> float:
        """Upscale the folder and return the seconds per image."""
        seconds, _ = self._run(row.side, "photos", "upscaled", on_line=lambda: advance(1))
        return seconds / self.count

    def _run(
        self,
        side: Side,
        source: str,
        target: str,
        *options: str,
        on_line: Callable[[], None] = lambda: None,
    ) -> tuple[float, list[str]]:
        place = self.scratch / side.name.replace(":", "-")
        place.mkdir(exist_ok=True)
        precision = [word for each in side.precision.split(",") for word in ("--precision", each)]
        command = [
            *_RUN, str(self.scratch / source), "-o", str(place / target), "--overwrite",
            "--device", side.device, *precision, *self.options, *options,
        ]  # fmt: skip
        return timed(command, cache_in(place / "cache"), on_line)


def measure(rows: Sequence[Row], runs: Runs, repetitions: int, advance: Advance) -> None:
    """Fill in the rows. Warm processes alternate, so that other load on the machine hits all sides."""
    for round_ in range(2 + repetitions):
        for row in rows:
            if row.failed:
                continue
            try:
                if round_ == 0:
                    row.cold = runs.image(row, advance)
                elif round_ <= repetitions:
                    row.warm.append(runs.image(row, advance))
                else:
                    row.folder = runs.folder(row, advance)
            except CallError as error:
                row.failed = str(error)


def timed(
    command: Sequence[str], environment: Mapping[str, str], on_line: Callable[[], None]
) -> tuple[float, list[str]]:
    """Run a command and return its seconds and the lines of its standard output.

    ``on_line`` is called after each line. Raises CallError with the last message where it fails.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=messages, text=True,
            env={**os.environ, **environment},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                lines = []
                for line in process.stdout:
                    lines.append(line.rstrip("\n"))
                    on_line()
            except BaseException:
                process.kill()
                raise
        seconds = time.perf_counter() - began
        messages.seek(0)
        told = [line.strip() for line in messages if line.strip()]
    if process.returncode:
        raise CallError(told[-1] if told else f"ended with exit code {process.returncode}")
    return seconds, lines


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    base = next((row for row in rows if row.side.device == "cpu"), None)
    return markdown_table(_HEAD, (_cells(row, base) for row in rows))


def _cells(row: Row, base: Row | None) -> list[str]:
    def ratio(theirs: float | None, ours: float | None) -> str:
        return significant(theirs / ours if theirs and ours else None)

    return [
        f"{precision_text(row.side.precision, row.precisions)}, {row.side.device}",
        f"failed: {row.failed}" if row.failed else significant(row.cold),
        significant(row.warm_median),
        ratio(base.warm_median if base else None, row.warm_median),
        significant(row.folder),
        ratio(base.folder if base else None, row.folder),
    ]
