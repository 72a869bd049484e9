"""``dossr-bench accuracy``: compare the images of a bundle with sharp originals."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.errors import EngineError
from ...runtime.seeds.iqa import MeasureError, Metric, open_metric
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..sides import one_side, open_side
from .originals import SMALLEST, photographs, read_originals

if TYPE_CHECKING:
    from ...runtime.pipeline import Pipeline
    from ..metrics import Pixels
    from .measuring import Entry, Setting


@click.command("accuracy", cls=Command)
@click.argument("originals", required=False, metavar="[FOLDER]",
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@one_side
@click.option("--orders", type=click.IntRange(1, 3), multiple=True, default=(1, 2, 3),
              show_default=True, help="Solver orders; may be repeated.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), multiple=True, default=(1, 2, 3, 5, 7, 10),
              show_default=True, help="Numbers of denoising steps; may be repeated.")  # fmt: skip
@click.option("--t1", type=click.IntRange(6, 1000), multiple=True,
              help="Additional start times, of 1000 (order 3, 5 steps); may be repeated.")  # fmt: skip
@click.option("--detail", type=click.FloatRange(0, 1), multiple=True,
              help="Additional shares of the networks' detail, as in dossr-run (order 3, 5 steps); may be repeated.")  # fmt: skip
@click.option("--metric", "names", multiple=True, metavar="NAME",
              help="Also score by this metric of pyiqa, such as maniqa, musiq, clipiqa, topiq_nr or lpips, where its "
              "weights are on the machine; may be repeated.")  # fmt: skip
@click.option("--size", type=click.IntRange(SMALLEST), default=512, show_default=True,
              help="Larger originals are cropped to this side in pixels; above 512 they run in tiles.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of degradation and noise.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for accuracy.json, accuracy.md, accuracy.png and comparisons of each image.")  # fmt: skip
def accuracy(
    originals: Path | None,
    bundle: Path | None,
    device: str,
    precision: tuple[str, ...],
    orders: tuple[int, ...],
    steps: tuple[int, ...],
    t1: tuple[int, ...],
    detail: tuple[float, ...],
    names: tuple[str, ...],
    size: int,
    seed: int,
    out: Path | None,
) -> None:
    """Measure a bundle on the sharp images in FOLDER, or on the photographs of scikit-image.

    Every image is blurred, reduced by four, made noisy and compressed with its own seed. It is then
    upscaled by bicubic interpolation, by the restorer alone and by the whole pipeline.

    \b
    Examples:
      dossr-bench accuracy --out accuracy
      dossr-bench accuracy DIV2K_valid_HR -b bundle --orders 3 --steps 5
      dossr-bench accuracy DIV2K_valid_HR -b bundle --metric musiq --metric maniqa

    Exit code: 0 done, 1 a network failed or a metric gives an image no score, 2 wrong use.
    """
    from .measuring import Setting
    from .report import table, write_report

    grid = [Setting(order, count) for order in orders for count in steps]
    starts = [Setting(3, 5, start) for start in t1]
    settings = [*grid, *starts, *(Setting(3, 5, detail=share) for share in detail)]
    metrics = _opened(names)
    make_folders(out)
    try:
        images = photographs(size) if originals is None else read_originals(originals, size)
        pipeline = open_side(bundle, device, precision)
        _check(settings, pipeline)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    entries = _measured(pipeline, images, settings, seed, metrics)
    click.echo(table(entries))
    if out is not None:
        write_report(out, entries, pipeline, images, seed)


def _measured(
    pipeline: "Pipeline",
    images: Mapping[str, "Pixels"],
    settings: Sequence["Setting"],
    seed: int,
    metrics: Sequence[Metric],
) -> list["Entry"]:
    """Measure with progress; raise ClickException where a network fails or a metric gives no score."""
    from .measuring import measure

    try:
        with Terminal().phase("measuring", len(images) * (len(settings) + 2)) as advance:
            return measure(pipeline, images, settings, seed, advance, metrics)
    except MeasureError as error:
        raise click.ClickException(f"--metric: {error}") from error
    except (EngineError, MemoryError) as error:
        raise click.ClickException(
            f"a network failed: {error or 'not enough memory'}; give a smaller --size"
        ) from error


def _check(settings: Iterable["Setting"], pipeline: "Pipeline") -> None:
    """Raise ValueError for more steps than a schedule has."""
    for setting in settings:
        setting.schedule(pipeline.manifest.schedule)


def _opened(names: Iterable[str]) -> list[Metric]:
    """Return each metric once; raise UsageError for one that cannot be loaded."""
    try:
        return [open_metric(name) for name in dict.fromkeys(names)]
    except MeasureError as error:
        raise click.UsageError(f"--metric: {error}") from error
