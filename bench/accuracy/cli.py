"""``dossr-bench accuracy``: how near a bundle's images come to sharp originals."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageDraw

from ...export.demo_training.degrade import Degradation
from ...runtime.files import whole_file, write_whole
from ...runtime.pipeline import Pipeline, load_pipeline
from ...runtime.tensors import SCALE
from ...runtime.terminal import Command, Terminal
from ...solvers import shifted_schedule
from ..metrics import Pixels, Scores, score

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
_SMALLEST = 64


@dataclass(frozen=True)
class Setting:
    """One way to run the sampler."""

    order: int
    steps: int
    t1: int | None = None
    """Where sampling starts, Eq. 4 exactly; None for the released schedule (T/2)."""


@dataclass(frozen=True)
class Entry:
    """Mean scores of one method over all images."""

    method: str
    """``bicubic``, ``restorer`` or ``pipeline``."""

    setting: Setting | None
    scores: Scores
    images: Mapping[str, Scores]


def photographs() -> dict[str, Pixels]:
    """The photographs that scikit-image carries (public domain or CC0); none is trained on."""
    import skimage.data

    return {name: _trimmed(getattr(skimage.data, name)()) for name in _PHOTOGRAPHS}


def read_originals(folder: Path, size: int) -> dict[str, Pixels]:
    """Every image below a folder, its middle of at most ``size`` pixels a side.

    Raises ValueError where there is none, or one is too small or cannot be read.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES:
            try:
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
            except OSError as error:
                raise ValueError(f"cannot read {path}: {error}") from error
            if min(pixels.shape[:2]) < _SMALLEST:
                raise ValueError(
                    f"originals must be at least {_SMALLEST} pixels a side, {path} has "
                    f"{pixels.shape[1]} x {pixels.shape[0]}"
                )
            found[str(path.relative_to(folder))] = pixels
    if not found:
        raise ValueError(f"{folder} must have images ({', '.join(sorted(_SUFFIXES))}), none found")
    return {name: _middle(pixels, size) for name, pixels in found.items()}


def measure(
    pipeline: Pipeline,
    originals: Mapping[str, Pixels],
    settings: Sequence[Setting],
    seed: int,
    advance: Callable[[int], None],
) -> list[Entry]:
    """Degrade every original with a seed of its own, bring it back, and score it.

    ``advance`` is told of every image made.
    """
    found: dict[tuple[str, Setting | None], dict[str, Scores]] = {}
    for number, (name, hr) in enumerate(originals.items()):
        for method, setting, pixels in _images(pipeline, degrade(hr, seed, number), settings, seed):
            found.setdefault((method, setting), {})[name] = score(pixels, hr)
            advance(1)
    return [
        Entry(method, setting, _mean(list(rows.values())), rows)
        for (method, setting), rows in found.items()
    ]


def degrade(hr: Pixels, seed: int, number: int) -> Pixels:
    """Image ``number``'s LR version: blur, reduction by four, noise, JPEG."""
    return Degradation()(hr, np.random.default_rng([seed, number]))


def _images(
    pipeline: Pipeline, lr: Pixels, settings: Sequence[Setting], seed: int
) -> Iterator[tuple[str, Setting | None, Pixels]]:
    yield "bicubic", None, bicubic(lr)
    for number, setting in enumerate(settings):
        restored, hr = upscale(pipeline, lr, setting, seed)
        if number == 0:
            yield "restorer", None, restored
        yield "pipeline", setting, hr


def upscale(pipeline: Pipeline, lr: Pixels, setting: Setting, seed: int) -> tuple[Pixels, Pixels]:
    """The restorer's image and the whole pipeline's."""
    seen: dict[str, Any] = {}

    def observe(name: str, array: Any) -> None:
        if name == "restored":
            seen[name] = np.array(array)

    levels = pipeline.manifest.schedule
    schedule = shifted_schedule(setting.steps, setting.t1, levels) if setting.t1 else None
    hr = pipeline.upscale(
        lr, steps=setting.steps, order=setting.order, seed=seed, schedule=schedule, observe=observe
    )
    restored = seen["restored"][0].transpose(1, 2, 0)[: hr.shape[0], : hr.shape[1]]
    return np.rint(restored * 255.0).astype(np.uint8), hr


def bicubic(lr: Pixels) -> Pixels:
    """Pillow's bicubic enlargement."""
    size = (lr.shape[1] * SCALE, lr.shape[0] * SCALE)
    return np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))


def table(entries: Sequence[Entry]) -> str:
    """Markdown, one row per method and setting."""
    lpips = any(entry.scores.lpips is not None for entry in entries)
    head = ["method", "order", "steps", "t1", "PSNR-Y (dB)", "SSIM", "detail", "gradient distance"]
    rows = [head + ["LPIPS"] * lpips]
    for entry in entries:
        setting, scores = entry.setting, entry.scores
        where = (
            [str(setting.order), str(setting.steps), str(setting.t1 or "T/2")]
            if setting
            else ["-"] * 3
        )
        row = [entry.method, *where, f"{scores.psnr_y:.2f}", f"{scores.ssim:.4f}"]
        row += [f"{scores.detail:.3f}", f"{scores.gradients:.3f}"]
        rows.append(row + ([f"{scores.lpips:.4f}"] if scores.lpips is not None else []))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def plot(entries: Sequence[Entry], path: Path) -> None:
    """Fidelity and detail over the number of steps, a line per order, as in the paper's Fig. 4(a)."""
    import matplotlib.pyplot as plt

    measures = (("psnr_y", "PSNR-Y (dB)"), ("ssim", "SSIM"), ("detail", "detail (1 = original)"),
                ("gradients", "gradient distance"))  # fmt: skip
    figure, axes = plt.subplots(1, len(measures), figsize=(15, 3.4), layout="constrained")
    lines: dict[int, list[tuple[int, Scores]]] = {}
    for entry in entries:
        if entry.setting and entry.setting.t1 is None:
            lines.setdefault(entry.setting.order, []).append((entry.setting.steps, entry.scores))
    for axis, (name, label) in zip(axes, measures, strict=True):
        for order, points in sorted(lines.items()):
            steps, scores = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            axis.plot(steps, [getattr(s, name) for s in scores], marker="o", label=f"order {order}")
        for entry, style in zip(
            [e for e in entries if e.setting is None], (":", "--"), strict=False
        ):
            axis.axhline(getattr(entry.scores, name), color="grey", ls=style, label=entry.method)
        axis.set(xlabel="steps", title=label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def strip(images: Mapping[str, Pixels]) -> Image.Image:
    """Images of one size side by side, each under its name."""
    height, width = next(iter(images.values())).shape[:2]
    sheet = Image.new("RGB", ((width + 4) * len(images) - 4, height + 18), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, pixels) in enumerate(images.items()):
        draw.text((i * (width + 4) + 2, 2), name, fill="black")
        sheet.paste(Image.fromarray(pixels), (i * (width + 4), 18))
    return sheet


@click.command("accuracy", cls=Command)
@click.argument("originals", required=False, metavar="[FOLDER]",
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("-b", "--bundle", type=click.Path(exists=True, path_type=Path),
              help="Bundle folder that dossr-export made.  [default: the built-in demo model]")  # fmt: skip
@click.option("--orders", type=click.IntRange(1, 3), multiple=True, default=(1, 2, 3),
              show_default=True, help="Orders of the solver; may be repeated.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), multiple=True, default=(1, 2, 3, 5, 7, 10),
              show_default=True, help="Step counts; may be repeated.")  # fmt: skip
@click.option("--t1", type=click.IntRange(2, 1000), multiple=True,
              help="Also start at these times of 1000 (order 3, 5 steps); may be repeated.")  # fmt: skip
@click.option("--size", type=click.IntRange(_SMALLEST), default=512, show_default=True,
              help="Only the middle of larger originals is used, in pixels; above 512 it is run in tiles.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of degradation and noise.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for accuracy.json, accuracy.md, accuracy.png and a comparison of each image.")  # fmt: skip
def accuracy(
    originals: Path | None,
    bundle: Path | None,
    orders: tuple[int, ...],
    steps: tuple[int, ...],
    t1: tuple[int, ...],
    size: int,
    seed: int,
    out: Path | None,
) -> None:
    """Measure a bundle on the sharp images in FOLDER, or on scikit-image's photographs.

    Every image is blurred, reduced by four, made noisy and compressed, each with a seed, then
    upscaled by bicubic interpolation, by the restorer alone and by the whole pipeline.

    \b
    Examples:
      dossr-bench accuracy --out accuracy
      dossr-bench accuracy DIV2K_valid_HR -b bundle --orders 3 --steps 5
    """
    settings = [Setting(order, count) for order in orders for count in steps]
    settings += [Setting(3, 5, start) for start in t1]
    try:
        images = (
            {name: _middle(pixels, size) for name, pixels in photographs().items()}
            if originals is None
            else read_originals(originals, size)
        )
        pipeline = load_pipeline(bundle)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from error
    progress = Terminal()
    with progress.phase("measuring", len(images) * (len(settings) + 2)) as advance:
        entries = measure(pipeline, images, settings, seed, advance)
    click.echo(table(entries))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _write(out, entries, pipeline, seed)
        shown = Setting(3, 5)
        for number, (name, hr) in enumerate(images.items()):
            lr = degrade(hr, seed, number)
            restored, whole = upscale(pipeline, lr, shown, seed)
            sheet = strip({"bicubic": bicubic(lr), "restorer": restored, "DoSSR, order 3, 5 steps": whole, "original": hr})  # fmt: skip
            with whole_file(out / f"{Path(name).stem}.png") as temporary:
                sheet.save(temporary)


def _write(out: Path, entries: Sequence[Entry], pipeline: Pipeline, seed: int) -> None:
    from ..measure.provenance import provenance

    document = {
        "provenance": provenance(),
        "checkpoint_sha256": pipeline.manifest.checkpoint_sha256,
        "seed": seed,
        "entries": [asdict(entry) for entry in entries],
    }
    write_whole(out / "accuracy.json", f"{json.dumps(document, indent=1)}\n".encode())
    write_whole(out / "accuracy.md", f"{table(entries)}\n".encode())
    plot(entries, out / "accuracy.png")


def _mean(rows: Sequence[Scores]) -> Scores:
    means = {}
    for field in fields(Scores):
        values = [getattr(row, field.name) for row in rows]
        means[field.name] = None if None in values else float(np.mean(values))
    return Scores(**means)  # type: ignore[arg-type]


def _middle(pixels: Pixels, size: int) -> Pixels:
    height, width = pixels.shape[:2]
    y, x = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return _trimmed(pixels[y : y + size, x : x + size])


def _trimmed(pixels: Pixels) -> Pixels:
    """With sides that are multiples of four."""
    height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width, :3])
