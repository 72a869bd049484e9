"""``dossr-bench objectives``: compare demo models trained for different diffusion processes."""

from pathlib import Path

import click

from ...export.demo_training.recipe import OBJECTIVES
from ...runtime.terminal import Command, Terminal
from ..accuracy.originals import SMALLEST, photographs, read_originals


@click.command("objectives", cls=Command)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("originals", required=False, metavar="[ORIGINALS]",
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("--objective", "objectives", type=click.Choice(list(OBJECTIVES)), multiple=True,
              default=list(OBJECTIVES), show_default=True,
              help="Objective to compare; may be repeated.")  # fmt: skip
@click.option("--size", type=click.IntRange(SMALLEST), default=512, show_default=True,
              help="Larger originals are cropped to this side in pixels.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of degradation and noise.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="objectives",
              show_default=True, help="Folder for objectives.json, .md, .png and all images.")  # fmt: skip
def objectives(
    folder: Path,
    originals: Path | None,
    objectives: tuple[str, ...],
    size: int,
    seed: int,
    out: Path,
) -> None:
    """Compare the models of FOLDER, one an objective, each with its own samplers.

    FOLDER is that of the training recipe. The sharp images in ORIGINALS, or the photographs of
    scikit-image, are degraded as in dossr-bench accuracy. The networks run in torch. The same command
    resumes an interrupted run.

    \b
    Examples:
      python -m dossr.export.demo_training FOLDER --objective dossr --objective flow
      dossr-bench objectives FOLDER --objective dossr --objective flow --out flow
    """
    from .compare import compare

    try:
        images = photographs(size) if originals is None else read_originals(originals, size)
        text = compare(folder, tuple(dict.fromkeys(objectives)), images, seed, out, Terminal())
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(text)
