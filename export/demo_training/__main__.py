"""``python -m dossr.export.demo_training FOLDER``: train the demo model and write its checkpoint."""

from pathlib import Path

import click

from ...runtime.bundle import open_bundle
from ...runtime.terminal import Command, Terminal
from .recipe import TRAININGS


@click.command("dossr.export.demo_training", cls=Command)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--images", type=click.IntRange(16), default=2000, show_default=True,
              help="Procedural images to make and train on.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True,
              help="Divides the numbers of training steps: 0.1 trains ten times as long.")  # fmt: skip
@click.option("--start", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Bundle of a demo model whose networks to train further.")  # fmt: skip
@click.option("--network", "networks", type=click.Choice(list(TRAININGS)), multiple=True, default=list(TRAININGS), show_default=True,
              help="Network to train, can be repeated; the other ones are kept from --start.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def main(
    folder: Path,
    device: str,
    images: int,
    speed: float,
    start: Path | None,
    networks: tuple[str, ...],
    seed: int,
) -> None:
    """Train the demo model in FOLDER, without any data set: demo.ckpt and demo.yaml.

    Restorer, autoencoder and denoiser one after the other. A run that was broken off goes on where
    it was when the same command is given again. The loss curves are FOLDER/*.csv and losses.png.
    """
    from .run import train_demo

    try:
        bundle = open_bundle(start) if start else None
        train_demo(folder, device, images, speed, seed, Terminal(), bundle, networks)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(f"{folder / 'demo.ckpt'}\n{folder / 'demo.yaml'}")


if __name__ == "__main__":
    main()
