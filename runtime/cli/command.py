"""``dossr-run``: the command line, checked before any work, then the run."""

import json
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import click

from ... import __version__
from ..terminal import say
from .arguments import (
    Arguments,
    GroupedCommand,
    PathOrUri,
    is_list,
    is_uri,
    to_arguments,
    with_options,
)

if TYPE_CHECKING:
    from .jobs import Plan
    from .one_image import Outcome, Settings


@click.command("dossr-run", cls=GroupedCommand)
@click.argument(
    "inputs",
    nargs=-1,
    required=True,
    type=PathOrUri(exists=True, allow_dash=True),
    metavar="INPUT...",
)
@with_options
@click.version_option(__version__, prog_name="dossr-run")
def main(**values: Any) -> int:
    """Upscale images four times, or to any size, with a DoSSR bundle.

    Without --bundle, a small demo model runs. It shows that the installation works; its quality is
    far below that of the released model.

    INPUT is an image file, a folder, which is searched with its subfolders and links, or - for
    standard input. What is an image is decided by content; other files are passed over and counted.
    Each file is upscaled once. Frames, transparency, grey, 16 bits, colour profile, orientation and
    metadata are kept as far as the format of the result holds them.

    Results in a folder are named as their sources, with the suffix .png or that of --format. Several
    input folders keep their names below OUT. Only names that would clash are changed: a.jpg beside
    a.png becomes a.jpg.png. Results beside their sources are called NAME_upscaled.png, and a rerun
    knows them by that name and does not read them.

    Images may have any size: those larger than a tile are sampled in overlapping tiles, which are
    blended at every step.

    \b
    Examples:
      dossr-run photo.jpg -o photo_x4.png
      dossr-run photos/ -o upscaled/ --bundle bundle --skip-existing
      dossr-run photos/ -o web/ --format webp --quality 85 --longest 3000
      dossr-run - -o - < photo.jpg > photo_x4.png
      dossr-run photo.jpg -o photo_x4.png -b bundle --device openvino --precision decoder=fp32
      dossr-run photo.jpg -o photo_x4.png -b bundle --device tensorrt --build level=5
      dossr-run s3://bucket/photos -o s3://bucket/upscaled -b bundle --ray auto

    Exit code: 0 all images done, 1 some images failed (each is named), 2 wrong use.
    """
    from .checks import checked

    arguments = to_arguments(values)
    if arguments.ray is not None:
        return _run_on_ray(arguments)
    _check_one_machine(arguments)
    plan, settings = checked(arguments)
    if arguments.dry_run:
        return _dry_run(arguments, plan, settings)
    return _run(arguments, plan, settings)


def _run_on_ray(arguments: Arguments) -> int:
    try:
        from ..fleet.printing import print_fleet
    except ModuleNotFoundError as error:
        raise click.UsageError(f"{error}; install it with: pip install 'dossr[ray]'") from error
    return print_fleet(arguments)


def _check_one_machine(arguments: Arguments) -> None:
    """Raise click.UsageError for what only a run with --ray takes."""
    given = (*arguments.inputs, arguments.output, arguments.bundle_uri or "")
    found = [*filter(is_uri, given), *filter(is_list, arguments.inputs)]
    if found:
        shown = re.sub(r"://.*@", "://", found[0]).partition("?")[0]  # no credentials
        raise click.UsageError(f"{shown} is a URI or a list, which need --ray")
    if arguments.workers is not None or arguments.gpus_per_worker is not None:
        raise click.UsageError("--workers and --gpus-per-worker need --ray")


def _dry_run(arguments: Arguments, plan: "Plan", settings: "Settings") -> int:
    """Print the plan, and nothing else: no network is loaded, nothing is written."""
    from .one_image import Failed
    from .opening import check_bundle, save_memory
    from .plan import memory_lines, memory_record, plan_lines, plan_records, plan_rows
    from .results import document

    manifest, memory = check_bundle(save_memory(arguments, plan.jobs), settings.sampling)
    rows = plan_rows(plan, settings, manifest)
    if arguments.as_json:
        whole = {**document(arguments, None, plan, []), "dry_run": True, "plan": plan_records(rows),
                 "memory": memory_record(memory, rows)}  # fmt: skip
        click.echo(json.dumps(whole, indent=1))
    else:
        for line in (*plan_lines(plan, rows), *memory_lines(memory, rows)):
            click.echo(line)
    return int(any(isinstance(row, Failed) for row in rows))


def _run(arguments: Arguments, plan: "Plan", settings: "Settings") -> int:
    """Upscale the images and report; return the exit code."""
    from .loop import run_jobs
    from .one_image import Failed, Skipped
    from .opening import check_bundle, open_pipeline, save_memory
    from .results import Reporter, document, write_comparison

    done = {job for job in plan.jobs if settings.skip_existing and job.is_done}
    jobs = [job for job in plan.jobs if job not in done]
    reporter = Reporter(settings, len(jobs), _results_stream(arguments, plan))
    arguments = save_memory(arguments, jobs)
    if jobs and (memory := check_bundle(arguments, settings.sampling)[1]):
        reporter.tell_memory(memory, settings.sampling.tiling)
        tiling = memory.tiling
        settings = replace(settings, sampling=replace(settings.sampling, tiling=tiling))
        arguments = replace(arguments, tile=tiling.tile, batch=tiling.batch)
    pipeline = open_pipeline(arguments) if jobs else None
    reporter.tell_plan(plan)
    outcomes: list[Outcome] = [Failed(job, reason) for job, reason in plan.failures]
    outcomes += [Skipped(job) for job in plan.jobs if job in done]
    for each in outcomes:
        reporter.end(each)
    if pipeline:
        outcomes += run_jobs(pipeline, jobs, settings, reporter)
    elif not plan.failures and not arguments.as_json:
        click.echo("nothing to do: every output exists", err=True)
    page = arguments.compare
    reasons = write_comparison(page, outcomes, arguments) if page else ()
    for reason in reasons:
        say("dossr-run", reason)
    if arguments.as_json:
        click.echo(json.dumps(document(arguments, pipeline, plan, outcomes), indent=1))
    return int(bool(reasons) or any(isinstance(each, Failed) for each in outcomes))


def _results_stream(arguments: Arguments, plan: "Plan") -> TextIO | None:
    """Return where a line for each result goes."""
    if arguments.as_json:
        return None
    return sys.stderr if any(job.target is None for job in plan.jobs) else sys.stdout
