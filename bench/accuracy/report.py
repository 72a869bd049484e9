"""The report of ``dossr-bench accuracy``: a table, a plot, and images side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageDraw

from ...runtime.files import whole_file, write_whole
from ...runtime.pipeline import Pipeline
from ..folders import save_png
from ..metrics import Pixels, Scores
from ..rounding import significant
from ..tables import markdown_table
from .measuring import Entry, Setting, bicubic, degrade, upscale
from .originals import middle

_SHOWN = Setting(3, 5)
"""The setting of the images side by side."""

_CROP = 176  # pixels of the images side by side that show the dials


def table(entries: Sequence[Entry]) -> str:
    """Return a Markdown table with one row for each method and setting."""
    has_lpips = any(entry.scores.lpips is not None for entry in entries)
    head = ["method", "order", "steps", "t1", "--detail", "PSNR-Y (dB)", "SSIM",
            "detail", "gradient distance"]  # fmt: skip
    by_pyiqa = list(entries[0].scores.metrics)
    return markdown_table(head + ["LPIPS"] * has_lpips + by_pyiqa, map(_cells, entries))


def write_report(
    out: Path, entries: Sequence[Entry], pipeline: Pipeline, images: Mapping[str, Pixels], seed: int
) -> None:
    """Write accuracy.json, accuracy.md, accuracy.png and a comparison of each image to an existing folder."""
    from ..measure.provenance import provenance

    document = {
        "provenance": provenance(),
        "checkpoint_sha256": pipeline.manifest.checkpoint_sha256,
        "device": pipeline.device.name,
        "precision": pipeline.precision,
        "seed": seed,
        "entries": [asdict(entry) for entry in entries],
    }
    write_whole(out / "accuracy.json", f"{json.dumps(document, indent=1)}\n".encode())
    write_whole(out / "accuracy.md", f"{table(entries)}\n".encode())
    plot(entries, out / "accuracy.png")
    for number, (name, hr) in enumerate(images.items()):
        lr = degrade(hr, seed, number)
        restored, whole = upscale(pipeline, lr, _SHOWN, seed)
        sheet = strip(
            {"bicubic": bicubic(lr), "restorer": restored, "DoSSR, order 3, 5 steps": whole, "original": hr}
        )  # fmt: skip
        save_png(sheet, out / f"{name}.png")
        dials = [entry.setting for entry in entries if entry.setting and _dial(entry.setting)]
        if dials:
            shown = {"released": whole} | {
                _dial(setting): upscale(pipeline, lr, setting, seed)[1] for setting in dials
            }
            crops = {label: middle(pixels, _CROP) for label, pixels in shown.items()}
            save_png(strip(crops), out / f"{name}-dial.png")


def plot(entries: Sequence[Entry], path: Path) -> None:
    """Plot fidelity and detail over the number of steps, one line per order, as the paper's Fig. 4(a)."""
    import matplotlib.pyplot as plt

    measures = (("psnr_y", "PSNR-Y (dB)"), ("ssim", "SSIM"), ("detail", "detail (1 = original)"),
                ("gradients", "gradient distance"))  # fmt: skip
    figure, axes = plt.subplots(1, len(measures), figsize=(15, 3.4), layout="constrained")
    lines: dict[int, list[tuple[int, Scores]]] = {}
    for entry in entries:
        if entry.setting and _dial(entry.setting) == "":
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
    """Place images of one size side by side, each with its name above."""
    height, width = next(iter(images.values())).shape[:2]
    sheet = Image.new("RGB", ((width + 4) * len(images) - 4, height + 18), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, pixels) in enumerate(images.items()):
        draw.text((i * (width + 4) + 2, 2), name, fill="black")
        sheet.paste(Image.fromarray(pixels), (i * (width + 4), 18))
    return sheet


def _dial(setting: Setting) -> str:
    """Return what a setting changes in how much is invented; '' for the released one."""
    if setting.t1:
        return f"start {setting.t1}"
    return "" if setting.detail == 1.0 else f"detail {setting.detail:g}"


def _cells(entry: Entry) -> list[str]:
    setting, scores = entry.setting, entry.scores
    where = ["-"] * 4
    if setting:
        where = [
            str(setting.order),
            str(setting.steps),
            str(setting.t1 or "T/2"),
            f"{setting.detail:g}",
        ]
    cells = [entry.method, *where, f"{scores.psnr_y:.2f}", f"{scores.ssim:.4f}"]
    cells += [f"{scores.detail:.3f}", f"{scores.gradients:.3f}"]
    cells += [f"{scores.lpips:.4f}"] if scores.lpips is not None else []
    return cells + [significant(value, 4) for value in scores.metrics.values()]
