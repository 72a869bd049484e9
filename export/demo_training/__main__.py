"""``python -m dossr.export.demo_training FOLDER``: train the demo model and write its checkpoint."""

import sys
from pathlib import Path

import click

from ...runtime.bundle import open_bundle
from ...runtime.terminal import Command, Terminal, say
from ..checkpoint.config import RELEASED
from .recipe import OBJECTIVES, TRAININGS, named

_NAME = "dossr.export.demo_training"


@click.command(_NAME, cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True,
              help="Where to train.")  # fmt: skip
@click.option("--images", type=click.IntRange(16), default=2000, show_default=True,
              help="Number of procedural training images.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Divisor of the numbers of steps: 0.1 trains ten times as long.")  # fmt: skip
@click.option("--start", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="BUNDLE",
              help="Bundle of a demo model whose networks are trained further.")  # fmt: skip
@click.option("--network", "networks", type=click.Choice(list(TRAININGS)), multiple=True, default=list(TRAININGS), show_default=True,
              help="Network to train; may be repeated. Others are kept from --start. The autoencoder of --start is trained with what its sampler adds.")  # fmt: skip
@click.option("--objective", "objectives", type=click.Choice(list(OBJECTIVES)), multiple=True, default=(RELEASED,), show_default=True,
              help="Diffusion process that the denoiser is trained for; may be repeated. Each gives a checkpoint.")  # fmt: skip
@click.option("--fresh", is_flag=True,
              help="Begin with the recipe's initial weights, also where --start has trained ones.")  # fmt: skip
@click.option("--crop", type=click.IntRange(16), metavar="SIDE",
              help="Side of the denoiser's latent crops, a multiple of 8.  [default: 64]")  # fmt: skip
@click.option("--batch", type=click.IntRange(1),
              help="Pieces in a training step; a GPU trains on many in the time of a few.  [default: 8, for the autoencoder of --start 2]")  # fmt: skip
@click.option("--recover", is_flag=True,
              help="Train nothing: write the checkpoint of --start, to export it again.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of images, weights and training.")  # fmt: skip
def main(
    folder: Path,
    device: str,
    images: int,
    speed: float,
    start: Path | None,
    networks: tuple[str, ...],
    objectives: tuple[str, ...],
    fresh: bool,
    crop: int | None,
    batch: int | None,
    recover: bool,
    seed: int,
) -> None:
    """Train the demo model in FOLDER, without a data set, and write demo.ckpt and demo.yaml.

    Restorer, autoencoder and denoiser are trained one after the other. The same command resumes an
    interrupted run. The loss curves are FOLDER/*.csv and losses.png.
    """
    from .run import recover_checkpoint, train_demo

    try:
        bundle = open_bundle(start) if start else None
        if recover:
            if bundle is None:
                raise click.UsageError("--recover needs --start, the bundle to take weights from")
            if set(objectives) != {RELEASED}:
                raise click.UsageError(
                    f"--recover writes the denoiser of --start, whose objective is {RELEASED}; "
                    "leave out --objective"
                )
            recover_checkpoint(folder, bundle)
        else:
            train_demo(
                folder, device, images, speed, seed, Terminal(), bundle, networks, objectives, fresh,
                crop=crop, batch=batch,
            )  # fmt: skip
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except RuntimeError as error:  # torch's own: memory, a full disk, another run's saved state
        say(_NAME, f"training in {folder} failed: {error}")
        sys.exit(1)
    for objective in (RELEASED,) if recover else objectives:
        name = named("demo", objective)
        click.echo(f"{folder / name}.ckpt\n{folder / name}.yaml")


if __name__ == "__main__":
    main()
