"""The pipeline of a run, opened once the options fit its bundle."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from ..bundle import DEMO, MANIFEST, Manifest, read_manifest
from ..engines.device import check_options
from ..engines.precision import parse_precision
from ..engines.tensorrt.library import LIBRARIES
from ..engines.tensorrt.options import BuildOptions, parse_options
from ..errors import BundleError, EngineError
from ..hardware import find_extra
from ..images.reader import count_frames
from ..memory import MemoryPlan, plan_memory
from ..options import SamplingOptions
from .arguments import Arguments
from .jobs import Job

if TYPE_CHECKING:
    from ..pipeline import Pipeline


def save_memory(arguments: Arguments, jobs: Sequence[Job]) -> Arguments:
    """Return arguments that hold one network at a time if nothing would need the others again.

    That is a single still image on OpenVINO, which compiles a network when it first runs in any case.
    The frames of a stream are not known before.
    """
    is_lazy = arguments.device.startswith(("openvino", "auto"))
    if not is_lazy or arguments.seeds or len(jobs) != 1:
        return arguments
    source = jobs[0].source
    if source is None or jobs[0].is_stream:
        return arguments
    is_still = arguments.first_frame or count_frames(source) == 1
    return replace(arguments, low_memory=True) if is_still else arguments


def check_bundle(
    arguments: Arguments, options: SamplingOptions
) -> tuple[Manifest, MemoryPlan | None]:
    """Return what the bundle says about its model, and the tiles for the free memory.

    The tiles are None where they are given or the bundle does not tell what they need.

    Raise click.UsageError if the bundle does not support the options. Loads no network.
    """
    try:
        manifest = read_manifest((arguments.bundle or DEMO) / MANIFEST)
    except BundleError as error:
        raise click.UsageError(str(error)) from error
    try:
        options.check(manifest)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    check_engines(arguments, manifest)
    if arguments.tile is not None:
        return manifest, None
    device, low_memory = arguments.device, arguments.low_memory
    if device == "auto":
        from ..engines.auto import likely_device

        device = likely_device(arguments.bundle or DEMO, manifest)
    return manifest, plan_memory(manifest, device, options.tiling, low_memory=low_memory)


def check_engines(arguments: Arguments, manifest: Manifest) -> None:
    """Raise click.UsageError if the device does not take an option of its engines. Loads no library."""
    build = _build_options(arguments)
    try:
        asked = parse_precision(arguments.precision)
        asked.check(manifest.stages)
        check_options(arguments.device, build, arguments.tf32, asked)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def open_pipeline(arguments: Arguments) -> "Pipeline":
    """Load the networks."""
    from ..pipeline import load_pipeline

    build = _build_options(arguments)
    if arguments.bundle is None:
        click.echo(
            "no --bundle: running the built-in demo model; create a bundle with "
            "dossr-export CHECKPOINT -o BUNDLE",
            err=True,
        )
    device = arguments.device
    try:
        return load_pipeline(
            arguments.bundle,
            device,
            low_memory=arguments.low_memory,
            build=build,
            tf32=arguments.tf32,
            precision=arguments.precision,
            verify=arguments.verify,
            threads=arguments.threads,
            log=partial(click.echo, err=True),
        )
    except (BundleError, EngineError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error}; install it with: pip install 'dossr[{find_extra(device)}]'"
        ) from error


def _build_options(arguments: Arguments) -> BuildOptions | None:
    try:
        build = parse_options(arguments.build) if arguments.build else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if build and arguments.device not in LIBRARIES:
        raise click.UsageError(
            f"--build is for --device {' and '.join(LIBRARIES)}, got --device {arguments.device}"
        )
    return build
