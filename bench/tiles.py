"""``dossr-bench tiles``: how far an image that is sampled in tiles is from the same one in one piece."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..runtime.errors import EngineError
from ..runtime.options import Tiling
from ..runtime.pipeline import Pipeline
from ..runtime.tensors import SCALE
from ..runtime.terminal import Command, Terminal
from ..runtime.tiling import Axis, denoiser_grid
from .folders import make_folders, save_png
from .metrics import Pixels, psnr
from .sides import one_side, open_side
from .tables import markdown_table

_TILES = (64, 96, 128)
_NEAR = 1  # positions on either side of a border that count as it


@dataclass(frozen=True)
class Entry:
    """One image in tiles of one size, against the same image in one piece."""

    image: str
    tile: int
    psnr: float
    """In dB, of the mean of the channels."""

    largest: int
    """Largest difference of a channel, of 255."""

    borders: float
    """Mean gradient across the borders of tiles, as a share of the whole image's at the same places."""

    elsewhere: float
    """The same everywhere else."""


@click.command("tiles", cls=Command)
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@one_side
@click.option("--tile", "tiles", type=click.IntRange(1), multiple=True, default=_TILES, show_default=True,
              help="Side of the tiles in pixels of the input; may be repeated.")  # fmt: skip
@click.option("--size", type=click.IntRange(32), default=192, show_default=True,
              help="Side of the images, in pixels of the input.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for tiles.json, tiles.md and every image, whole and in tiles.")  # fmt: skip
def tiles(
    folder: Path | None,
    bundle: Path | None,
    device: str,
    precision: tuple[str, ...],
    tiles: tuple[int, ...],
    size: int,
    out: Path | None,
) -> None:
    """Compare images that are sampled in tiles with the same images in one piece.

    The images are those of FOLDER, or a sky, a gradient, lettering and a photograph of scikit-image. The
    table shows the distance of both, and whether the borders of tiles are seen: the gradient across them
    as a share of the gradient at the same places of the whole image, beside the same for all other places.

    \b
    Examples:
      dossr-bench tiles --out tiles
      dossr-bench tiles photos -b bundle --tile 128 --size 512
    """
    make_folders(out)
    try:
        images = _plain_images(size) if folder is None else _read(folder, size)
        pipeline = open_side(bundle, device, precision)
        for tile in tiles:
            Tiling(tile).check(pipeline.manifest.size_multiple)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    progress = Terminal()
    with progress.phase("upscaling", len(images) * (len(tiles) + 1)) as advance:
        entries, failure = _compared(compare(pipeline, images, tiles, advance, out))
    if entries:
        click.echo(table(entries))
        if out is not None:
            _write(out, entries, pipeline, size)
    if failure:
        raise click.ClickException(failure)


def _compared(found: Iterator[Entry]) -> tuple[list[Entry], str]:
    """Return the entries before a network failed, and why it did; empty if none did."""
    entries: list[Entry] = []
    try:
        entries.extend(found)
    except EngineError as error:
        return entries, str(error)
    return entries, ""


def compare(
    pipeline: Pipeline,
    images: Mapping[str, Pixels],
    tiles: Sequence[int],
    advance: Callable[[float], None],
    out: Path | None,
) -> Iterator[Entry]:
    """Yield an entry for each image and tile size; write the images to ``out``.

    Raise EngineError, with the image and the tile in front, where a network fails or memory runs out.
    """
    for name, lr in images.items():
        whole = _upscaled(pipeline, name, lr, 0)
        advance(1)
        _save(out, f"{name}-whole.png", whole)
        for tile in tiles:
            tiled = _upscaled(pipeline, name, lr, tile)
            advance(1)
            _save(out, f"{name}-{tile}.png", tiled)
            multiple = pipeline.manifest.size_multiple
            height, width = (-(-side // multiple) * multiple for side in lr.shape[:2])
            grid = denoiser_grid(Tiling(tile), height, width, multiple)
            yield _entry(name, tile, whole, tiled, (grid.rows, grid.columns))


def _upscaled(pipeline: Pipeline, name: str, lr: Pixels, tile: int) -> Pixels:
    try:
        return pipeline.upscale(lr, tile=tile)
    except (EngineError, MemoryError) as error:
        how = f"in tiles of {tile}" if tile else "in one piece; give a smaller --size"
        raise EngineError(f"{name} failed {how}: {error or 'not enough memory'}") from error


def _entry(name: str, tile: int, whole: Pixels, tiled: Pixels, axes: tuple[Axis, Axis]) -> Entry:
    a, b = (image.astype(np.float64).mean(axis=2) for image in (whole, tiled))
    at, other = np.zeros(2), np.zeros(2)  # sums of gradients: tiled, whole
    for axis, cuts in enumerate(axes):
        near = _borders(cuts, a.shape[axis])
        for index, plane in enumerate((b, a)):
            steps = np.abs(np.diff(plane, axis=axis)).mean(axis=1 - axis)
            at[index] += steps[near].sum()
            other[index] += steps[~near].sum()
    largest = int(np.abs(whole.astype(int) - tiled).max())
    return Entry(name, tile, psnr(b, a), largest, _share(at), _share(other))


def _borders(cuts: Axis, size: int) -> NDArray[np.bool_]:
    """Return which of the ``size`` - 1 steps between neighbours lie at an inner border of a tile.

    ``cuts`` are of the padded LR image, ``size`` is the result's.
    """
    inner = {*cuts.starts} | {start + cuts.length for start in cuts.starts}
    near = np.zeros(size - 1, bool)
    for place in inner - {0, cuts.size}:
        middle = place * SCALE - 1
        near[max(0, middle - _NEAR) : middle + _NEAR + 1] = True
    return near


def _share(sums: NDArray[np.float64]) -> float:
    return float(sums[0] / sums[1]) if sums[1] else float("nan")


def table(entries: Sequence[Entry]) -> str:
    """Return a Markdown table."""
    head = ["image", "tile", "PSNR (dB)", "largest difference", "gradient at borders", "elsewhere"]
    return markdown_table(head, map(_cells, entries))


def _cells(entry: Entry) -> list[str]:
    return [entry.image, str(entry.tile), f"{entry.psnr:.1f}", str(entry.largest),
            f"{entry.borders:.3f}", f"{entry.elsewhere:.3f}"]  # fmt: skip


def _write(out: Path, entries: Sequence[Entry], pipeline: Pipeline, size: int) -> None:
    from ..runtime.files import write_whole
    from .measure.provenance import save

    document = {
        "checkpoint_sha256": pipeline.manifest.checkpoint_sha256,
        "device": pipeline.device.name,
        "precision": pipeline.precision,
        "size": size,
        "entries": [asdict(entry) for entry in entries],
    }
    save(document, out / "tiles.json")
    write_whole(out / "tiles.md", f"{table(entries)}\n".encode())


def _save(out: Path | None, name: str, pixels: Pixels) -> None:
    if out is not None:
        save_png(Image.fromarray(pixels), out / name)


def _plain_images(size: int) -> dict[str, Pixels]:
    """Return what shows borders most: smooth areas, and lettering; and a photograph."""
    import skimage.data

    down, right = np.mgrid[0.0 : 1.0 : size * 1j, 0.0 : 1.0 : size * 1j]
    noise = np.random.default_rng(0).normal(0.0, 1.0, (size, size, 1))
    sky = np.stack([90 + 90 * down, 140 + 70 * down, 220 + 20 * down], axis=2) + noise
    gradient = np.stack([255 * right, 255 * down, 255 * (1 - right)], axis=2)
    photograph = Image.fromarray(skimage.data.astronaut()).resize(
        (size, size), Image.Resampling.LANCZOS
    )
    return {
        "sky": _pixels(sky),
        "gradient": _pixels(gradient),
        "text": _text(size),
        "photograph": np.asarray(photograph),
    }


def _pixels(levels: NDArray[np.float64]) -> Pixels:
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


def _text(size: int) -> Pixels:
    image = Image.new("RGB", (size, size), (250, 248, 240))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for line, top in enumerate(range(4, size, 16)):
        words = "The quick brown fox jumps over the lazy dog. 0123456789 " * 4
        draw.text((4, top), words[line:], (20, 20, 30), font)
    return np.asarray(image)


def _read(folder: Path, size: int) -> dict[str, Pixels]:
    from .accuracy.originals import read_originals

    return read_originals(folder, size)
