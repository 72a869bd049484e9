"""The command line, checked as a whole before any network is loaded."""

from pathlib import Path

import click

from ..files import remove_leftovers
from ..images.alpha import parse_color
from ..images.formats import WRITABLE
from ..images.sizes import TargetSize, parse_fit
from ..images.source import WriteOptions
from ..options import TILE, SamplingOptions, Tiling
from ..seeds.iqa import MeasureError
from ..seeds.measures import AGREEMENT, Measure, open_measure
from ..seeds.request import MOST_SHOWN, SeedsRequest
from .arguments import LOSSY, Arguments
from .jobs import Plan, check_outputs, check_places, find_jobs
from .naming import Naming
from .one_image import Settings
from .output import parse_output


def checked(arguments: Arguments) -> tuple[Plan, Settings]:
    """Return the images to upscale and how; raise click.UsageError if an output cannot be written."""
    try:
        return _checked(arguments)
    except OSError as error:
        raise click.UsageError(f"cannot write {arguments.output}: {error.strerror}") from error


def _checked(arguments: Arguments) -> tuple[Plan, Settings]:
    output = parse_output(arguments.output, arguments.inputs, arguments.format, arguments.suffix)
    settings = check_options(arguments, output.suffix)
    if output.is_stdout and arguments.as_json:
        raise click.UsageError("--json and -o - both write to standard output; give one of both")
    _check_compare(arguments, output.is_stdout)
    seeds = settings.seeds
    takes_one = seeds is None or (seeds.best and len(seeds.files(Path("image.png"))) == 1)
    if output.is_stdout and not takes_one:
        raise click.UsageError(
            "-o - takes one image; give --best MEASURE alone, or a file or folder"
        )
    plan = find_jobs(arguments.inputs, output, name_results(arguments, output.suffix), seeds)
    if arguments.compare:
        _check_sources_stay(plan)
    if not arguments.dry_run:
        for folder in {job.target.parent for job in plan.jobs if job.target}:
            remove_leftovers(folder)
    check_outputs(plan.jobs, arguments.overwrite or arguments.skip_existing)
    return plan, settings


def check_options(arguments: Arguments, suffix: str) -> Settings:
    """Return what is done with every image; raise click.UsageError for options that do not fit.

    ``suffix``: of the format that is written.
    """
    if arguments.overwrite and arguments.skip_existing:
        raise click.UsageError("--overwrite and --skip-existing contradict each other; give one")
    sampling, size, seeds = _sampling(arguments), _target_size(arguments), _seeds(arguments)
    return Settings(
        size,
        sampling,
        _writing(arguments, suffix),
        suffix,
        arguments.max_pixels,
        arguments.first_frame,
        arguments.overwrite,
        arguments.skip_existing,
        shrinks=arguments.tile is None,
        seeds=seeds,
        measure=_measure(seeds),
        low_memory=arguments.low_memory,
    )


def name_results(arguments: Arguments, suffix: str) -> Naming:
    """Return how results in a folder are named."""
    keeps_pages = arguments.format is None and not arguments.first_frame
    return Naming(suffix, arguments.suffix, keeps_pages)


def _sampling(arguments: Arguments) -> SamplingOptions:
    tile = TILE if arguments.tile is None else arguments.tile
    tiling = Tiling(tile, arguments.overlap, arguments.batch)
    try:
        return SamplingOptions(
            arguments.steps,
            arguments.order,
            arguments.seed,
            arguments.color_fix,
            tiling,
            start=arguments.start,
            detail=arguments.detail,
        )
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error


def _seeds(arguments: Arguments) -> SeedsRequest | None:
    """Return what is asked of several seeds; raise click.UsageError where it makes no sense."""
    asked = [name for name in ("best", "sheet", "mean", "spread") if getattr(arguments, name)]
    count = arguments.seeds
    if count is None:
        if asked:
            raise click.UsageError(f"--{asked[0]} is for several draws; give --seeds N, too")
        return None
    if arguments.sheet and count > MOST_SHOWN:
        raise click.UsageError(f"--sheet shows at most {MOST_SHOWN} draws, got --seeds {count}")
    return SeedsRequest(arguments.seed, count, arguments.best, arguments.sheet, arguments.mean,
                        arguments.spread)  # fmt: skip


def _measure(seeds: SeedsRequest | None) -> Measure | None:
    if seeds is None:
        return None
    try:
        return open_measure(seeds.best or AGREEMENT)
    except MeasureError as error:
        raise click.UsageError(f"--best: {error}") from error


def _target_size(arguments: Arguments) -> TargetSize:
    try:
        return TargetSize(
            arguments.scale,
            arguments.longest,
            arguments.shortest,
            arguments.width,
            arguments.height,
            parse_fit(arguments.fit) if arguments.fit is not None else None,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _writing(arguments: Arguments, suffix: str) -> WriteOptions:
    """Return how results are written; raise click.UsageError for what their format does not have."""
    kind = WRITABLE[suffix]
    if arguments.quality is not None and not kind.quality:
        raise click.UsageError(f"--quality is for {LOSSY}, got {suffix[1:]}; leave it out")
    if arguments.depth == "16" and not kind.deep:
        deep = ", ".join(name[1:] for name, each in WRITABLE.items() if each.deep)
        raise click.UsageError(f"--depth 16 is for {deep}, got {suffix[1:]}")
    if set("/\\\0") & set(arguments.suffix):
        raise click.UsageError(f"--suffix must be part of a name, got '{arguments.suffix}'")
    return WriteOptions(
        quality=arguments.quality,
        depth=arguments.depth,
        background=_color(arguments.background) if arguments.background is not None else None,
        strip=arguments.strip,
        profile=arguments.profile,
    )


def _color(text: str) -> tuple[int, int, int]:
    try:
        return parse_color(text)
    except ValueError as error:
        raise click.UsageError(f"--background {error}") from error


def _check_compare(arguments: Arguments, is_stdout: bool) -> None:
    page = arguments.compare
    if page is None:
        return
    if is_stdout:
        raise click.UsageError("--compare shows files, and -o - writes none; give an output file")
    if arguments.seeds and not arguments.best:
        raise click.UsageError(
            "--compare shows one result of each image; give --best MEASURE with --seeds, or --sheet"
        )
    if page.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"--compare writes an HTML page, got {page}; name it PAGE.html")
    if page.exists() and not (arguments.overwrite or arguments.skip_existing):
        raise click.UsageError(f"{page} exists; pass --overwrite or --skip-existing")
    check_places([page])


def _check_sources_stay(plan: Plan) -> None:
    """Raise click.UsageError for a source that the page cannot show when the run is over."""
    for job in plan.jobs:
        source, target = job.source, job.target
        if source is None or job.is_stream:
            raise click.UsageError(
                f"--compare shows files, and {job.name} is a stream; give a file"
            )
        if target and target.exists() and source.samefile(target):
            raise click.UsageError(
                f"--compare shows each source, and {source} would be replaced; give another name to -o"
            )
