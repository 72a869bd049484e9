"""``dossr-run --ray``: what is printed."""

import json
import sys
from contextlib import redirect_stdout
from functools import partial

import click

from ..cli.arguments import Arguments
from ..cli.search import count_text
from ..terminal import captured_stderr, say
from .places import PlaceError
from .records import Row
from .upscaling import Plan, Report, check_fleet, run_fleet


def print_fleet(arguments: Arguments) -> int:
    """Run a command line on a cluster; return the exit code. Raise click.UsageError for wrong use."""
    try:
        plan = check_fleet(arguments)
    except PlaceError as error:
        raise click.UsageError(str(error)) from error
    _tell(plan)
    for _, reason in plan.inputs.failures:
        say("dossr-run", reason)
    with captured_stderr(), redirect_stdout(sys.stderr):  # Ray's core logs to both
        report = run_fleet(plan, _tell_failure, partial(say, "dossr-run"))
    if report.stopped:
        say("dossr-run", report.stopped)
    if arguments.as_json:
        click.echo(json.dumps(_document(plan, report), indent=1))
    else:
        click.echo(_summary(report))
    return int(bool(report.failures or report.stopped))


def _tell(plan: Plan) -> None:
    """Print what is to be known before the work."""
    if plan.arguments.bundle_text is None and plan.left.todo:
        click.echo("no --bundle: running the built-in demo model", err=True)
    if plan.inputs.renamed:
        click.echo(f"{plan.inputs.renamed} names that would clash were changed", err=True)
    if plan.inputs.passed_over:
        click.echo(f"passed over: {count_text(plan.inputs.passed_over)}", err=True)


def _tell_failure(row: Row) -> None:
    if row.error is not None:
        sys.stderr.flush()
        say("dossr-run", row.error)


def _summary(report: Report) -> str:
    failed = f", {len(report.failures)} failed" if report.failures else ""
    if not report.workers:
        return f"nothing to do: {report.skipped} images are done{failed}; {report.manifest}"
    return (
        f"{report.done} images in {report.seconds:.1f} s by {report.workers} workers, {report.skipped} done "
        f"before{failed}; {report.manifest}"
    )


def _document(plan: Plan, report: Report) -> dict[str, object]:
    return {
        **plan.made_with,
        "done": report.done,
        "skipped": report.skipped,
        "failed": [{"input": name, "error": why} for name, why in report.failures],
        "workers": report.workers,
        "seconds": round(report.seconds, 3),
        "manifest": report.manifest,
        "stopped": report.stopped,
    }
