"""``dossr-run``: upscale image files and folders."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from .bundle import DEMO, MANIFEST, read_manifest
from .engines.device import DEVICES
from .engines.precision import CHOICES
from .engines.tensorrt.library import LIBRARIES
from .engines.tensorrt.options import SETTINGS, parse_options
from .errors import BundleError, EngineError, ImageError
from .files import remove_leftovers
from .hardware import find_extra
from .images.color import COLOR_FIXES
from .options import MAX_STEPS, TILE, SamplingOptions, Tiling
from .tensors import MAX_PIXELS
from .terminal import Command, progress_bar, say

if TYPE_CHECKING:
    from .images.jobs import Job
    from .pipeline import Pipeline

_EXISTING = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    inputs: tuple[Path, ...]
    output: Path
    bundle: Path | None
    device: str
    low_memory: bool
    precision: tuple[str, ...]
    verify: bool
    tf32: bool | None
    build: tuple[str, ...]
    steps: int
    order: int
    seed: int
    scale: float
    color_fix: str
    tile: int
    overlap: int | None
    batch: int
    max_pixels: int
    overwrite: bool
    skip_existing: bool
    as_json: bool


@click.command("dossr-run", cls=Command)
@click.argument("inputs", nargs=-1, required=True, type=_EXISTING, metavar="INPUT...")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT",
              help="Output file for one INPUT file; otherwise a folder, created if missing.")  # fmt: skip
@click.option("-b", "--bundle", type=_EXISTING,
              help="Bundle folder from dossr-export.  [default: the built-in demo model]")  # fmt: skip
@click.option("--device", type=click.Choice((*DEVICES, "auto")), default="cpu", show_default=True,
              help="Device that runs the networks; auto takes engines that are built already, else cuda if it "
              "computes right, else openvino where the processor has bf16, else cpu.")  # fmt: skip
@click.option("--precision", multiple=True, metavar="[STAGE=]PRECISION",
              help=f"Of the networks on a processor: {', '.join(CHOICES)}; may be repeated for single stages. auto: "
              "bf16 on openvino where the processor has it and the stage's golden vectors allow it. int8: for "
              "bundles exported with --int8.  "
              "[default: auto]")  # fmt: skip
@click.option("--low-memory", is_flag=True,
              help="Hold one network in memory at a time and reload each for every image.")  # fmt: skip
@click.option("--verify", is_flag=True,
              help="Hash every file of the bundle, also those that did not change since they were hashed.")  # fmt: skip
@click.option("--tf32/--no-tf32", default=None,
              help="Let float32 products on a GPU use TensorFloat-32.  [default: in float16 bundles]")  # fmt: skip
@click.option("--build", "build", multiple=True, metavar="SETTING",
              help=f"Setting of TensorRT builds: {', '.join(SETTINGS)}; may be repeated.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, MAX_STEPS), default=5, show_default=True,
              help="Network evaluations: more steps add detail and take longer.")  # fmt: skip
@click.option("--order", type=click.IntRange(1, 3), default=3, show_default=True,
              help="Order of the solver; 1 is recommended from 10 steps on.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=42, show_default=True,
              help="Noise seed, the same for every image.")  # fmt: skip
@click.option("--scale", type=click.FloatRange(1, 4), default=4, show_default=True,
              help="Size of the result relative to the input; below 4, the result is reduced.")  # fmt: skip
@click.option("--color-fix", type=click.Choice(list(COLOR_FIXES)), default="wavelet",
              show_default=True, help="How the colours of the input are restored.")  # fmt: skip
@click.option("--tile", type=click.IntRange(0), default=TILE, show_default=True,
              help="Side of the tiles for larger images, in pixels of the input; smaller tiles need less "
              "memory. 0: no tiles; memory then grows with the square of the area.")  # fmt: skip
@click.option("--overlap", type=click.IntRange(0),
              help="Overlap of the denoiser's tiles, in pixels of the input; less is faster.  "
              "[default: half a tile]")  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True,
              help="Tiles per call of the denoiser: more may be faster on a GPU and need more memory. "
              "TensorRT builds one engine per batch size.")  # fmt: skip
@click.option("--max-pixels", type=click.IntRange(1), default=MAX_PIXELS, show_default=True,
              help="Reject larger inputs, in pixels (width times height), before decoding them.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--skip-existing", is_flag=True,
              help="Skip images whose output exists: resumes an interrupted run.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON document.")
@click.version_option(__version__, prog_name="dossr-run")
def main(**values: Any) -> int:
    """Upscale images four times with a DoSSR bundle.

    Without --bundle, a small demo model runs. It shows that the installation works; its quality is
    far below that of the released model.

    INPUT is an image file or a folder, which is searched recursively. Transparency, grey, colour
    profile and orientation are kept. Results in a folder are PNG files with the names of their
    sources. Images may have any size: those larger than a tile are sampled in overlapping tiles,
    which are blended at every step.

    \b
    Examples:
      dossr-run photo.jpg -o photo_x4.png
      dossr-run photos/ -o upscaled/ --bundle bundle --skip-existing
      dossr-run photo.jpg -o photo_x4.png -b bundle --device openvino --precision decoder=fp32
      dossr-run photo.jpg -o photo_x4.png -b bundle --device tensorrt --build level=5

    Exit code: 0 all images done, 1 some images failed (each is named), 2 wrong use.
    """
    arguments = Arguments(**values)
    if arguments.overwrite and arguments.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing contradict each other; give one")
    if not math.isfinite(arguments.scale):
        raise click.UsageError(f"--scale must be between 1 and 4, got {arguments.scale}")
    options = _options(arguments)
    jobs = _jobs(arguments)
    pipeline = _open(arguments, options) if jobs else None
    results = _run(pipeline, jobs, options, arguments) if pipeline else []
    if arguments.as_json:
        click.echo(json.dumps(_document(arguments, pipeline, results), indent=1))
    elif not jobs:
        click.echo("nothing to do: every output exists", err=True)
    return int(any("error" in result for result in results))


def _options(arguments: Arguments) -> SamplingOptions:
    tiling = Tiling(arguments.tile, arguments.overlap, arguments.batch)
    try:
        return SamplingOptions(
            arguments.steps, arguments.order, arguments.seed, arguments.color_fix, tiling
        )
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error


def _jobs(arguments: Arguments) -> "list[Job]":
    """Return the images to upscale; raise click.UsageError if an output cannot be written."""
    from .images.jobs import check_outputs, find_jobs

    try:
        jobs = find_jobs(arguments.inputs, arguments.output)
        for folder in {job.target.parent for job in jobs}:
            remove_leftovers(folder)
        if arguments.skip_existing:
            jobs = [job for job in jobs if not job.target.exists()]
        check_outputs(jobs, arguments.overwrite)
    except OSError as error:
        raise click.UsageError(f"cannot write {arguments.output}: {error.strerror}") from error
    return jobs


def _run(
    pipeline: "Pipeline", jobs: "Sequence[Job]", options: SamplingOptions, arguments: Arguments
) -> list[dict[str, Any]]:
    """Upscale every image and print its result; return the results for --json."""
    results: list[dict[str, Any]] = []
    for number, job in enumerate(jobs, 1):
        if arguments.skip_existing and job.target.exists():  # written by another process
            continue
        label = f"[{number}/{len(jobs)}] {job.source.name}"
        result = _upscale(pipeline, job, options, arguments, label)
        results.append(result)
        if "error" in result:
            say("dossr-run", result["error"])
        elif not arguments.as_json:
            size = f"{result['width']} x {result['height']}"
            click.echo(f"{job.target}  {size}  {result['seconds']:.1f} s")
    return results


def _open(arguments: Arguments, options: SamplingOptions) -> "Pipeline":
    """Check the options against the manifest, then load the networks."""
    from .pipeline import load_pipeline

    bundle, device = arguments.bundle, arguments.device
    try:
        build = parse_options(arguments.build) if arguments.build else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if build and device not in LIBRARIES:
        raise click.UsageError(
            f"--build is for --device {' and '.join(LIBRARIES)}, got --device {device}"
        )
    try:
        manifest = read_manifest((bundle or DEMO) / MANIFEST)
    except BundleError as error:
        raise click.UsageError(str(error)) from error
    try:
        options.check(manifest)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    if bundle is None:
        click.echo(
            "no --bundle: running the built-in demo model; create a bundle with "
            "dossr-export CHECKPOINT -o BUNDLE",
            err=True,
        )
    try:
        return load_pipeline(
            bundle,
            device,
            low_memory=arguments.low_memory,
            build=build,
            tf32=arguments.tf32,
            precision=arguments.precision,
            verify=arguments.verify,
            log=partial(click.echo, err=True),
        )
    except (BundleError, EngineError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error}; install it with: pip install "
            f"'dossr[{find_extra('cpu' if device == 'auto' else device)}]'"
        ) from error


def _upscale(
    pipeline: "Pipeline", job: "Job", options: SamplingOptions, arguments: Arguments, label: str
) -> dict[str, Any]:
    """Upscale one file; return its result for --json."""
    from .images.reader import read_image
    from .images.writer import check_writable, write_image

    began = time.perf_counter()
    try:
        image = read_image(job.source, arguments.max_pixels, first_frame=True)
        frame = image.frames[0]
        size = tuple(max(1, round(side * arguments.scale)) for side in frame.size)
        check_writable(job.target, image, [size])
        if not arguments.overwrite and job.target.exists():
            raise ImageError(f"{job.target} was created meanwhile and is not replaced")
        with progress_bar(label) as progress:
            pixels = pipeline.run(frame.pixels, options, progress=progress)
        width, height = write_image(
            job.target, [pixels], image, [size], replace=arguments.overwrite
        )
    except ImageError as error:
        return {"input": str(job.source), "error": str(error)}
    except (BundleError, EngineError) as error:  # --low-memory opens the networks only now
        return {"input": str(job.source), "error": f"{job.source}: {error}"}
    except MemoryError:
        return {"input": str(job.source),
                "error": f"{job.source}: not enough memory for this size; pass a smaller --tile"}  # fmt: skip
    seconds = round(time.perf_counter() - began, 3)
    return {"input": str(job.source), "output": str(job.target),
            "width": width, "height": height, "seconds": seconds}  # fmt: skip


def _document(
    arguments: Arguments, pipeline: "Pipeline | None", results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the document for --json."""
    device = pipeline.device.name if pipeline else arguments.device
    precision = pipeline.precision if pipeline else {}
    names = ("scale", "steps", "order", "seed", "color_fix", "tile", "overlap", "batch")
    settings = {name: getattr(arguments, name) for name in names}
    bundle = str(arguments.bundle or DEMO)
    return {
        "bundle": bundle,
        "device": device,
        "precision": precision,
        **settings,
        "results": results,
    }


if __name__ == "__main__":
    main()
