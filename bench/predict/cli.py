"""``dossr-bench predict``: bounds on latency, memory and energy from published figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.bundle import DEMO, Manifest, open_bundle
from ...runtime.errors import BundleError
from ...runtime.files import write_whole
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..systems import SYSTEMS, load_system
from .devices import Catalogue, Device, read_catalogue

if TYPE_CHECKING:
    from ..systems.system import System
    from .predictions import Predictions, Subject

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
_BACKENDS = ("engine", "torch")
_SIDE = 64  # every system accepts multiples of it
_DEMO = "demo"


@click.command("predict", cls=Command)
@click.option("--device", "names", multiple=True, metavar="NAME",
              help="Device; may be repeated; all: every one. --list names them.")  # fmt: skip
@click.option("--list", "is_listed", is_flag=True, help="Print the devices and their figures.")
@click.option("--systems", multiple=True, metavar="NAME[,NAME...]",
              help=f"Rows of Table 1; may be repeated: {', '.join(SYSTEMS)}.  [default: all]")  # fmt: skip
@click.option("--bundle", metavar="BUNDLE",
              help=f"Predict the stages of this bundle instead; {_DEMO}: the built-in one.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps of a bundle.")  # fmt: skip
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp16", show_default=True,
              help="Precision of all layers.")  # fmt: skip
@click.option("--backend", type=click.Choice(_BACKENDS), default="engine", show_default=True,
              help="engine: norms, activations and copies cost nothing, as in an engine that fuses all of them; "
              "torch: each reads and writes memory.")  # fmt: skip
@click.option("--size", type=click.IntRange(1), default=128, show_default=True,
              help=f"Side of the LR image; for systems a multiple of {_SIDE}.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
              help="Also write predictions.md, .json and .png to this folder.")  # fmt: skip
def predict(
    names: tuple[str, ...],
    is_listed: bool,
    systems: tuple[str, ...],
    bundle: str | None,
    steps: int,
    out: Path | None,
    **settings: str | int,
) -> None:
    """Predict latency, memory and energy on devices that are not here. Nothing is measured.

    Counted multiply-accumulates and bytes of every layer are held against the vendor's published
    rates: no layer is faster than its arithmetic at the peak rate, nor than its memory traffic at the
    full bandwidth. Real runs take longer.

    \b
    Examples:
      dossr-bench predict --list
      dossr-bench predict --device jetson-agx-orin-64gb --device rtx-4090
      dossr-bench predict --device all --systems dossr-5,diffbir-50 --precision fp16 --out predicted
      dossr-bench predict --device jetson-orin-nano-8gb --bundle bundle16 --size 64
    """
    catalogue = read_catalogue()
    if is_listed:
        click.echo(_listing(catalogue))
        return
    devices = _find(catalogue, names, str(settings["precision"]))
    make_folders(out)
    subjects = _subjects(systems, bundle, int(settings["size"]), steps)

    from .predictions import predict as predicted
    from .report import tables

    found = predicted(subjects, devices, settings)
    click.echo("\n\n".join(tables(found)))
    for path in _write(found, catalogue, out) if out else []:
        click.echo(path)


def _listing(catalogue: Catalogue) -> str:
    from .report.markdown import devices_table

    return devices_table(catalogue.devices)


def _find(catalogue: Catalogue, names: tuple[str, ...], precision: str) -> tuple[Device, ...]:
    """Return the devices. Raises UsageError for an unknown one, or one without the precision."""
    if not names:
        raise click.UsageError("missing option '--device'; --list names the devices")
    try:
        found = catalogue.find(names)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for device in found:
        if device.name in names and (reason := device.missing(precision)):
            raise click.UsageError(f"{reason}; choose another --precision")
    return found


def _subjects(
    systems: tuple[str, ...], bundle: str | None, size: int, steps: int
) -> "tuple[Subject, ...]":
    """Count what is predicted. Raises UsageError for what cannot be."""
    if bundle is not None and systems:
        raise click.UsageError("--systems and --bundle exclude each other: give one of them")
    try:
        return _bundle(bundle, size, steps) if bundle else _systems(systems, size)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _bundle(bundle: str, size: int, steps: int) -> "tuple[Subject, ...]":
    from .predictions import count_bundle

    with Terminal().phase("counting"):
        return (count_bundle(bundle, read_bundle(bundle), size, steps),)


def read_bundle(bundle: str) -> Manifest:
    """Read the manifest of a bundle. Raises UsageError for what is no bundle."""
    try:
        return open_bundle(DEMO if bundle == _DEMO else Path(bundle)).manifest
    except BundleError as error:
        raise click.UsageError(str(error)) from error


def _systems(names: tuple[str, ...], size: int) -> "tuple[Subject, ...]":
    from .predictions import count_systems

    if size % _SIDE:
        raise ValueError(f"--size must be a multiple of {_SIDE}, got {size}")
    wanted = [name for item in names for name in item.split(",")] or SYSTEMS
    loaded: list[System] = [load_system(name, size) for name in dict.fromkeys(wanted)]
    return count_systems(loaded, Terminal())


def _write(found: "Predictions", catalogue: Catalogue, out: Path) -> list[Path]:
    from ..measure.provenance import save
    from .report import draw, page, png

    paths = [out / f"predictions.{end}" for end in ("md", "json", "png")]
    write_whole(paths[0], page(found, catalogue).encode())
    save(found.as_dict(catalogue), paths[1])
    write_whole(paths[2], png(draw(found)))
    return paths
