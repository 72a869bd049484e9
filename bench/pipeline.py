"""``dossr-bench pipeline``: DoSSR as released, in torch, against its exported bundle."""

import json
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..export.cli import Terminal
from ..runtime.bundle import BundleError, Manifest, open_bundle
from ..runtime.command import Command
from .child import Job, JobError, run
from .metrics import psnr

_GIB = 2**30


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    load_s: float
    """Reading and hashing the weights, building or opening the networks."""

    first_s: float
    """The first picture."""

    seconds: tuple[float, ...]
    """The pictures after the warm-up."""

    peak_bytes: int | None
    """Of its process; None where the system does not say."""

    @property
    def median_s(self) -> float:
        """Of ``seconds``."""
        return float(np.median(self.seconds))


@dataclass(frozen=True)
class Comparison:
    """Same weights, same noise, same machine, one run."""

    size: int
    steps: int
    reference: Side
    bundle: Side
    precision: str
    """Of the bundle; the reference is fp32."""

    psnr: float
    """dB, of the two 8-bit pictures."""

    largest: int
    """Largest difference of a value, of 255."""


def compare(
    checkpoint: Path,
    config: Path | None,
    bundle: Path,
    manifest: Manifest,
    size: int,
    steps: int,
    warmup: int,
    repetitions: int,
) -> Comparison:
    """Run both in a process of their own, one after the other. Raises JobError where one fails."""
    progress = Terminal()
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        sides, pictures = {}, {}
        for kind in ("reference", "bundle"):
            picture = Path(folder) / f"{kind}.npy"
            job = Job(
                kind=kind,
                size=size,
                warmup=warmup,
                repetitions=repetitions,
                files={
                    "checkpoint": str(checkpoint),
                    "config": str(config or ""),
                    "bundle": str(bundle),
                    "picture": str(picture),
                },
                steps=steps,
                need=checkpoint.stat().st_size if kind == "reference" else _size(manifest),
            )
            with progress.phase(kind, 2 + warmup + repetitions) as advance:
                sides[kind] = Side(**run(job, advance))
            pictures[kind] = np.load(picture).astype(np.int64)
    return Comparison(
        size,
        steps,
        sides["reference"],
        sides["bundle"],
        manifest.precision,
        psnr(pictures["bundle"], pictures["reference"]),
        int(np.abs(pictures["bundle"] - pictures["reference"]).max()),
    )


def table(found: Comparison) -> str:
    """Markdown."""
    sides = (found.reference, found.bundle)
    rows = [
        ("", "reference, torch fp32", f"bundle, {found.precision}", "ratio"),
        _row("picture, median (s)", [side.median_s for side in sides], ".2f"),
        _row("first picture (s)", [side.first_s for side in sides], ".2f"),
        _row("loading (s)", [side.load_s for side in sides], ".2f"),
        _row("peak memory (GiB)", [(side.peak_bytes or math.nan) / _GIB for side in sides], ".2f"),
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(
        [
            lines[0],
            "|---|---|---|---|",
            *lines[1:],
            "",
            f"{found.size} x {found.size} pixels, {found.steps} steps; the pictures differ by at most "
            f"{found.largest} of 255, PSNR {found.psnr:.1f} dB",
        ]
    )


def _row(name: str, values: list[float], form: str) -> tuple[str, str, str, str]:
    reference, bundle = values
    return name, format(reference, form), format(bundle, form), f"{reference / bundle:.2f}x"


@click.command("pipeline", cls=Command)
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-b", "--bundle", required=True, type=click.Path(exists=True, path_type=Path),
              help="Bundle that dossr-export made of CHECKPOINT.")  # fmt: skip
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="YAML",
              help="The model's official YAML file, as it was given to dossr-export.")  # fmt: skip
@click.option("--size", type=click.IntRange(16), default=128, show_default=True,
              help="Side of the LR picture; a multiple of the model's size multiple.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True)
@click.option("--warmup", type=click.IntRange(0), default=1, show_default=True,
              help="Pictures that are not counted.")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1), default=3, show_default=True,
              help="Pictures that are; the median is shown.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and where they come from to this file.")  # fmt: skip
def pipeline(
    checkpoint: Path,
    bundle: Path,
    config: Path | None,
    size: int,
    steps: int,
    warmup: int,
    repetitions: int,
    file: Path | None,
) -> None:
    """Compare DoSSR as released (torch eager, fp32, every pass that the script makes and throws away)
    with its exported bundle: same weights, same noise, one run.

    \b
    Example:
      python -m dossr.export.formula full.ckpt
      dossr-export full.ckpt -o bundle
      dossr-bench pipeline full.ckpt -b bundle
    """
    from ..export.checkpoint import read_checkpoint
    from ..export.errors import CheckpointError

    try:
        manifest = open_bundle(bundle).manifest
        source = read_checkpoint(checkpoint, config)
    except (BundleError, CheckpointError) as error:
        raise click.UsageError(str(error)) from error
    if size % manifest.size_multiple:
        raise click.UsageError(
            f"--size must be a multiple of {manifest.size_multiple}, which the released script needs, "
            f"got {size}"
        )
    if source.sha256 != manifest.checkpoint_sha256:
        raise click.UsageError(
            f"{bundle} must be the export of {checkpoint}, and it is of another file "
            f"({manifest.checkpoint}); export the checkpoint again"
        )
    try:
        found = compare(checkpoint, config, bundle, manifest, size, steps, warmup, repetitions)
    except JobError as error:
        raise click.ClickException(str(error)) from error
    click.echo(table(found))
    if file is not None:
        from .provenance import provenance

        document: dict[str, Any] = {"provenance": provenance(), **asdict(found)}
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _size(manifest: Manifest) -> int:
    return sum(record.size for record in manifest.files.values())
