"""``dossr-run``: upscale image files and folders."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from .bundle import DEMO
from .engines.device import DEVICES
from .engines.tensorrt.options import SETTINGS, parse_options
from .errors import BundleError
from .files import remove_leftovers
from .terminal import Command, progress_bar, say
from .tiling import TILE, Tiling

if TYPE_CHECKING:
    from .pipeline import Pipeline

_EXISTING = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written."""

    scale: float
    max_pixels: int
    overwrite: bool


@dataclass(frozen=True)
class Job:
    """One image to read and the file to write."""

    source: Path
    target: Path


@click.command("dossr-run", cls=Command)
@click.argument("inputs", nargs=-1, required=True, type=_EXISTING, metavar="INPUT...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT",
              help="File to write, for one INPUT file; otherwise a folder, made if need be.")  # fmt: skip
@click.option("-b", "--bundle", type=_EXISTING,
              help="Bundle folder that dossr-export made.  [default: the built-in demo model]")  # fmt: skip
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True,
              help="Where the networks run.")  # fmt: skip
@click.option("--low-memory", is_flag=True,
              help="Hold one network at a time; each is loaded anew for every image.")  # fmt: skip
@click.option("--engine", "engine", multiple=True, metavar="SETTING",
              help=f"How TensorRT builds engines: {', '.join(SETTINGS)}; may be repeated.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Network evaluations: more give more detail, and take longer.")  # fmt: skip
@click.option("--order", type=click.IntRange(1, 3), default=3, show_default=True,
              help="Order of the solver; 1 is advised from 10 steps on.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True,
              help="Noise seed, the same for every image.")  # fmt: skip
@click.option("--scale", type=click.FloatRange(1, 4), default=4, show_default=True,
              help="Size of the result. The network gives 4; less is reduced from that.")  # fmt: skip
@click.option("--color-fix", type=click.Choice(["wavelet", "adain", "none"]), default="wavelet",
              show_default=True, help="How the colours of the input are brought back.")  # fmt: skip
@click.option("--tile", type=click.IntRange(0), default=TILE, show_default=True,
              help="Side of the tiles that larger images are cut into, in pixels of the input: smaller "
              "ones take less memory. 0: not cut; memory then grows with the square of the area.")  # fmt: skip
@click.option("--overlap", type=click.IntRange(0),
              help="How far the sampler's tiles overlap, in pixels of the input; less is faster.  "
              "[default: half a tile]")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True,
              help="Tiles that are sampled at once: more may be faster on a GPU, and take more memory. "
              "TensorRT builds an engine for each number that occurs.")  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(1), default=1 << 24, show_default=True,
              help="Refuse larger inputs, in pixels (width times height), before anything is decoded.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--skip-existing", is_flag=True,
              help="Leave out images whose output exists: goes on with a broken-off run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON document.")
@click.version_option(__version__, prog_name="dossr-run")
def main(
    inputs: tuple[Path, ...],
    output: Path,
    bundle: Path | None,
    device: str,
    low_memory: bool,
    engine: tuple[str, ...],
    steps: int,
    order: int,
    seed: int,
    scale: float,
    color_fix: str,
    tile: int,
    overlap: int | None,
    batch: int,
    max_pixels: int,
    overwrite: bool,
    skip_existing: bool,
    as_json: bool,
) -> None:
    """Upscale images four times with a DoSSR bundle.

    Without --bundle a small demo model runs, which shows that everything works and is far from the
    released model's quality.

    INPUT is an image file or a folder, which is searched with its subfolders. Transparency, grey,
    the colour profile and the orientation are kept. Results in a folder are PNG files under the
    names of their sources. Images of any size: what is larger than a tile is sampled in tiles
    that overlap and are blended at every step.

    \b
    Examples:
      dossr-run photo.jpg -o photo_x4.png
      dossr-run photos/ -o upscaled/ --bundle bundle --skip-existing
      dossr-run photo.jpg -o photo_x4.png -b bundle --device tensorrt --engine level=5

    Exit code: 0 all done, 1 some images failed (each is named), 2 wrong use.
    """
    if overwrite and skip_existing:
        raise click.UsageError("--overwrite and --skip-existing contradict each other; give one")
    if not math.isfinite(scale):
        raise click.UsageError(f"--scale must be between 1 and 4, got {scale}")
    files = FileOptions(scale, max_pixels, overwrite)
    try:
        jobs = _jobs(inputs, output)
        for folder in {job.target.parent for job in jobs}:
            remove_leftovers(folder)
        if skip_existing:
            jobs = [job for job in jobs if not job.target.exists()]
        _check_outputs(jobs, overwrite)
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror}") from error
    results: list[dict[str, Any]] = []
    settings: dict[str, Any] = {"steps": steps, "order": order, "seed": seed, "color_fix": color_fix,
                                "tile": tile, "overlap": overlap, "batch": batch}  # fmt: skip
    if jobs:
        pipeline = _open(bundle, device, low_memory, engine)
        try:
            Tiling(tile, overlap, batch).check(pipeline.manifest.size_multiple)
        except ValueError as error:
            raise click.UsageError(f"--{error}") from error
        for number, job in enumerate(jobs, 1):
            if skip_existing and job.target.exists():  # made meanwhile, by another process
                continue
            label = f"[{number}/{len(jobs)}] {job.source.name}"
            result = _upscale(pipeline, job, files, settings, label)
            results.append(result)
            if "error" in result:
                say("dossr-run", result["error"])
            elif not as_json:
                click.echo(
                    f"{job.target}  {result['width']} x {result['height']}  {result['seconds']:.1f} s"
                )
    if as_json:
        run = {"bundle": str(bundle or DEMO), "device": device, "scale": scale, **settings,
               "results": results}  # fmt: skip
        click.echo(json.dumps(run, indent=1))
    elif not jobs:
        click.echo("nothing to do: every output exists", err=True)
    if any("error" in result for result in results):
        sys.exit(1)


def _jobs(inputs: Sequence[Path], output: Path) -> list[Job]:
    """What to read and where to write it. Raises UsageError where two would be one file."""
    from .images.files import is_writable_name

    if len(inputs) == 1 and inputs[0].is_file() and output.suffix and not output.is_dir():
        if not is_writable_name(output):
            raise click.UsageError(
                f"cannot write {output}: '{output.suffix}' is no format that can be written; try .png"
            )
        return [Job(inputs[0], output)]
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"{output} must be a folder for these inputs, and it is a file")
    jobs: dict[Path, Job] = {}
    for path in inputs:
        for file, relative in _images(path, output.resolve()):
            target = output / relative.with_suffix(".png")
            if target in jobs:
                raise click.UsageError(
                    f"{jobs[target].source} and {file} would both be written to {target}; rename one"
                )
            jobs[target] = Job(file, target)
    if not jobs:
        raise click.UsageError(f"no images in {', '.join(map(str, inputs))}")
    return list(jobs.values())


def _images(path: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """The files that an input stands for, and where they lie in it; none of an output inside it."""
    from .images.files import is_image_name

    if path.is_file():
        yield path, Path(path.name)
        return
    root = path.resolve()
    is_inside = output != root and output.is_relative_to(root)
    for file in sorted(_walk(path)):
        written = is_inside and file.resolve().is_relative_to(output)
        if not written and (file.is_dir() or (file.is_file() and is_image_name(file))):
            yield file, file.relative_to(path.parent if file == path else path)


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder; a folder that cannot be read stands for what is in it, and fails."""
    unreadable: list[Path] = []
    for root, _, names in os.walk(
        folder, onerror=lambda error: unreadable.append(Path(error.filename))
    ):
        yield from (Path(root) / name for name in names)
    yield from unreadable


def _check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    """Raise UsageError before any work where an output exists or cannot be written."""
    existing = [job.target for job in jobs if job.target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise click.UsageError(f"{existing[0]}{more} exists; pass --overwrite or --skip-existing")
    for job in jobs:
        if job.target.is_dir():
            raise click.UsageError(f"{job.target} must be a file, and it is a folder")
    for folder in {job.target.parent for job in jobs}:
        nearest = next(f for f in (folder, *folder.absolute().parents) if f.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise click.UsageError(f"cannot write to {folder}: {nearest} is no folder of yours")


def _open(
    bundle: Path | None, device: str, low_memory: bool, settings: Sequence[str]
) -> "Pipeline":
    from .errors import EngineError
    from .pipeline import load_pipeline

    try:
        build = parse_options(settings) if settings else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if build and device != "tensorrt":
        raise click.UsageError(f"--engine is for --device tensorrt, got --device {device}")
    if bundle is None:
        click.echo(
            "no --bundle: the built-in demo model runs; for the real one, "
            "dossr-export CHECKPOINT -o BUNDLE",
            err=True,
        )
    try:
        return load_pipeline(bundle, device, low_memory=low_memory, build=build)
    except (BundleError, EngineError) as error:
        raise click.UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error}; install it with: pip install 'dossr[{device}]'"
        ) from error


def _upscale(
    pipeline: "Pipeline", job: Job, files: FileOptions, settings: dict[str, Any], label: str
) -> dict[str, Any]:
    """One image from file to file: what came of it, for people and for --json."""
    from .errors import EngineError, ImageError
    from .images.files import check_writable, read_image, write_image

    began = time.perf_counter()
    try:
        image = read_image(job.source, files.max_pixels)
        check_writable(job.target, image, files.scale)
        if not files.overwrite and job.target.exists():
            raise ImageError(f"{job.target} appeared meanwhile, and is left as it is")
        with progress_bar(label) as progress:
            pixels = pipeline.upscale(image.pixels, progress=progress, **settings)
        width, height = write_image(job.target, pixels, image, files.scale, replace=files.overwrite)
    except ImageError as error:
        return {"input": str(job.source), "error": str(error)}
    except (BundleError, EngineError) as error:  # with --low-memory they are opened only now
        return {"input": str(job.source), "error": f"{job.source}: {error}"}
    except MemoryError:
        return {"input": str(job.source),
                "error": f"{job.source}: not enough memory for this size; pass a smaller --tile"}  # fmt: skip
    seconds = round(time.perf_counter() - began, 3)
    return {"input": str(job.source), "output": str(job.target),
            "width": width, "height": height, "seconds": seconds}  # fmt: skip


if __name__ == "__main__":
    main()
