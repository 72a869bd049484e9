"""The command ``dossr-export``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..runtime.bundle import TARGETS, Manifest, Precision, Target, open_bundle
from ..runtime.engines.tensorrt.library import LIBRARIES
from ..runtime.engines.tensorrt.options import SETTINGS, BuildOptions, parse_options
from ..runtime.hardware import find_extra
from ..runtime.options import TILE
from ..runtime.terminal import Command, Terminal
from .engines import EngineRequest, build_engines, check_requests, describe, parse_request
from .errors import VerificationError
from .exit_codes import enough_memory, errors_in_one_line, missing_packages
from .quantization import check_int8
from .triton.serve_settings import SERVE_SETTINGS, RepositoryOptions, parse_serve

if TYPE_CHECKING:
    from .exporter import Inspect

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    checkpoint: Path
    output: Path | None
    config: Path | None
    ema: bool
    fp16: bool
    int8: bool
    targets: tuple[Target, ...]
    engines: tuple[str, ...]
    build: tuple[str, ...]
    triton: Path | None
    serve: tuple[str, ...]
    tf32: bool | None
    steps: tuple[int, ...]
    tile: int
    prompt: str | None
    tokenizer: Path | None
    no_verify: bool
    debug: bool
    overwrite: bool


@click.command("dossr-export", cls=Command)
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="BUNDLE",
              help="Folder to create.")  # fmt: skip
@click.option("--config", type=_FILE, metavar="YAML",
              help="The model's official YAML file.  [default: derived from the tensors]")  # fmt: skip
@click.option("--ema", is_flag=True,
              help="Take the moving average of the weights (model_ema.*, params_ema), where the checkpoint has one.")  # fmt: skip
@click.option("--fp16", is_flag=True,
              help="Use float16 weights, and on GPUs float16 activations, except where precision requires float32.")  # fmt: skip
@click.option("--int8", is_flag=True,
              help="Add restorer and denoiser in 8-bit integers, for --device openvino --precision int8; takes "
              "minutes more and needs dossr[export,openvino].")  # fmt: skip
@click.option("--target", "targets", type=click.Choice(TARGETS), multiple=True, default=TARGETS,
              metavar="TARGET", help=f"What graphs are written for: {', '.join(TARGETS)}; may be repeated.  "
              "[default: all; they share the weights]")  # fmt: skip
@click.option("--engine", "engines", multiple=True, metavar="ENGINE",
              help="Build engines too: tensorrt or tensorrt-rtx for this machine's GPU, or "
              "tensorrt-rtx:sm86,sm89,sm120 for a list of GPUs, which needs none; may be repeated.")  # fmt: skip
@click.option("--build", multiple=True, metavar="SETTING",
              help=f"Setting of these builds: {', '.join(SETTINGS)}; may be repeated.")  # fmt: skip
@click.option("--triton", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Write the bundle as a model of NVIDIA's Triton Inference Server into this model repository.")  # fmt: skip
@click.option("--serve", multiple=True, metavar="SETTING",
              help=f"Setting of this model: {', '.join(SERVE_SETTINGS)}; may be repeated.")  # fmt: skip
@click.option("--tf32/--no-tf32", default=None,
              help="Let float32 products of these engines use TensorFloat-32.  [default: in float16 bundles]")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), multiple=True, default=(1, 3, 5, 7),
              show_default=True, help="Step count whose times are verified; may be repeated.")  # fmt: skip
@click.option("--tile", type=click.IntRange(1), default=TILE, show_default=True,
              help="Side of the tiles that engines of fixed size will be built for, in pixels of the "
              "input; the bundle then holds golden vectors of this size.")  # fmt: skip
@click.option("--prompt", metavar="TEXT",
              help="Prompt to fold in.  [default: clean, high-resolution, 8k]")  # fmt: skip
@click.option("--tokenizer", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Folder of a CLIP tokenizer, for prompts other than the default and ''.")  # fmt: skip
@click.option("--no-verify", is_flag=True, help="Do not compare the graphs with torch.")
@click.option("--debug", is_flag=True,
              help="Name the layer at which the graph of each target, and TensorRT on this machine's GPU, "
              "first departs from the graph for the CPU.")  # fmt: skip
@click.option(
    "--overwrite", is_flag=True, help="Replace an existing bundle, and with --triton a model."
)
@click.version_option(__version__, prog_name="dossr-export")
def main(**values: Any) -> None:
    """Export a DoSSR CHECKPOINT (.ckpt or .safetensors) to a bundle that runs without torch.

    Each graph is compared with torch; an error above the bound fails the export, and no bundle
    is written. Nothing in a checkpoint is ever executed.

    With --engine, --int8, --debug or --triton, CHECKPOINT may also be a finished bundle: only engines
    are built then, 8-bit networks added, its graphs compared, or a model for Triton written.

    \b
    Examples:
      dossr-export dossr_default.ckpt -o bundle --fp16
      dossr-export dossr_default.ckpt -o bundle --config cldm_v21.yaml --steps 5
      dossr-export bundle --engine tensorrt-rtx:sm86,sm89,sm120
      dossr-export bundle --int8
      dossr-export bundle --debug
      dossr-export bundle --triton models --serve device=cuda --serve instances=2

    Exit code: 0 done, 1 the export failed, 2 wrong use.
    """
    arguments = Arguments(**values)
    if (arguments.build or arguments.tf32 is not None) and not arguments.engines:
        raise click.UsageError("--build and --tf32 are for engines; add --engine")
    if arguments.serve and not arguments.triton:
        raise click.UsageError("--serve is for a model repository; add --triton DIR")
    is_bundle = arguments.checkpoint.is_dir()
    if is_bundle:
        _check_bundle_only(arguments)
    requests, settings, served = _planned(arguments)
    if is_bundle and arguments.debug:
        _debug(arguments.checkpoint, requests)
    bundle = arguments.checkpoint if is_bundle else _export(arguments, requests)
    if arguments.int8:
        _add_int8(bundle, is_new=not is_bundle)
    _build(bundle, requests, settings, arguments.tile)
    if arguments.triton:
        _write_triton(bundle, arguments.triton, served, overwrite=arguments.overwrite)


def _planned(
    arguments: Arguments,
) -> tuple[list[EngineRequest], BuildOptions, RepositoryOptions]:
    """Return what is built and served after the export.

    Exit, before the export takes its time, where that cannot be done.
    """
    with errors_in_one_line():
        requests = [parse_request(text) for text in arguments.engines]
        settings = replace(parse_options(arguments.build), tf32=arguments.tf32)
        served = parse_serve(arguments.serve)
        is_bundle = arguments.checkpoint.is_dir()
        manifest = open_bundle(arguments.checkpoint).manifest if is_bundle else None
        targets = manifest.targets if manifest else arguments.targets
        if manifest and settings.sides and _is_given("tile"):
            raise ValueError(
                "--tile must be left out with --build sides, whose engines serve all these sides"
            )
        if requests:
            with missing_packages(find_extra(requests[0].library)):
                check_requests(requests, settings, targets)
        if arguments.int8:
            with missing_packages("export,openvino"):
                check_int8(targets)
        if arguments.triton:
            from .triton.repository import check_repository

            if manifest:
                served.check(manifest, int8=arguments.int8)
            else:
                served.check_export(targets, int8=arguments.int8)
            check_repository(arguments.triton, served, overwrite=arguments.overwrite)
    return requests, settings, served


def _export(arguments: Arguments, requests: list[EngineRequest]) -> Path:
    """Export the checkpoint, print a report, and return the folder of the bundle."""
    output, debug = arguments.output, arguments.debug
    if output is None:
        raise click.UsageError("a checkpoint needs --output, the folder of the bundle")
    precision: Precision = "fp16" if arguments.fp16 else "fp32"
    with (
        errors_in_one_line(output),
        enough_memory(),
        _debugging(precision, arguments.targets, requests) if debug else nullcontext() as inspect,
    ):
        from . import export_bundle
        from .networks.text import DEFAULT_PROMPT

        manifest = export_bundle(
            arguments.checkpoint,
            output,
            config=arguments.config,
            ema=arguments.ema,
            fp16=arguments.fp16,
            targets=arguments.targets,
            steps=arguments.steps,
            tile=arguments.tile,
            prompt=DEFAULT_PROMPT if arguments.prompt is None else arguments.prompt,
            tokenizer=arguments.tokenizer,
            verify=not arguments.no_verify,
            overwrite=arguments.overwrite,
            inspect=inspect,
            progress=Terminal(),
        )
    _report(output, manifest)
    return output


def _check_bundle_only(arguments: Arguments) -> None:
    """Raise click.UsageError where the options are not for a finished bundle."""
    context = click.get_current_context()
    allowed = {
        "checkpoint",
        "engines",
        "build",
        "tf32",
        "output",
        "debug",
        "int8",
        "triton",
    }
    allowed |= {"serve", "overwrite"} if arguments.triton else set()
    allowed |= {"tile"} if arguments.engines else set()
    given = [name for name in context.params if name not in allowed and _is_given(name)]
    has_task = arguments.engines or arguments.debug or arguments.int8 or arguments.triton
    if not has_task or arguments.output is not None or given:
        raise click.UsageError(
            "a finished bundle takes --engine (with it --build and --tile), --int8, --debug and --triton only; "
            "give a checkpoint to export"
        )


def _is_given(name: str) -> bool:
    """Return whether an option is on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _debug(folder: Path, requests: list[EngineRequest]) -> None:
    """Compare the graphs of a bundle and print the result."""
    with errors_in_one_line():
        bundle = open_bundle(folder)
        manifest = bundle.manifest
        with _debugging(manifest.precision, manifest.targets, requests) as inspect:
            from .debug import stages_of

            for stage in stages_of(bundle):
                inspect(*stage)


@contextmanager
def _debugging(
    precision: Precision, targets: Sequence[Target], requests: list[EngineRequest]
) -> Iterator["Inspect"]:
    """Yield a function that compares the graphs of a stage; print its results after the block.

    They are printed before an error of the block, which they may explain.
    """
    try:
        from .debug import Debugger, Departure, check_targets, table

        check_targets(targets)
        debugger = Debugger(precision, [request.library for request in requests] or LIBRARIES)
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error}; --debug needs it: pip install 'dossr[export,cpu]'"
        ) from error
    found: list[Departure] = []
    try:
        yield lambda *stage: found.extend(debugger.departures(*stage))
    finally:
        if found:
            click.echo(table(found, debugger))


def _build(folder: Path, requests: list[EngineRequest], options: BuildOptions, tile: int) -> None:
    """Build engines for a bundle and print them."""
    for request in requests:
        with errors_in_one_line(), missing_packages(find_extra(request.library)):
            click.echo(describe(build_engines(open_bundle(folder), request, options, tile)))


def _add_int8(folder: Path, *, is_new: bool) -> None:
    """Add 8-bit networks to a bundle and print them; if no stage can have one, only note it in a new bundle."""
    with errors_in_one_line(folder), missing_packages("export,openvino"):
        from .quantization.add import add_int8

        progress = Terminal()
        try:
            manifest = add_int8(folder, progress)
        except VerificationError as error:
            if not is_new:
                raise
            progress.note(f"{error}; the bundle is complete without")
            return
    for stage, record in manifest.stages.items():
        if record.int8:
            click.echo(
                f"{stage} in int8: {record.int8.products - record.int8.held} of "
                f"{record.int8.products} products, error {record.int8.error:.1e}"
            )


def _write_triton(
    folder: Path, repository: Path, options: RepositoryOptions, *, overwrite: bool
) -> None:
    """Write the model of a bundle into a model repository and print where it is."""
    from .triton.repository import write_repository

    with errors_in_one_line(repository):
        model = write_repository(open_bundle(folder), repository, options, overwrite=overwrite)
        size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        click.echo(
            f"{model}: for {options.service.device}, {size / 1e6:.1f} MB; start it with: "
            f"tritonserver --model-repository {repository.absolute()}"
        )


def _report(output: Path, manifest: Manifest) -> None:
    """Print the verification and the size of a bundle."""
    from .verify import Row, table

    if manifest.verification:
        click.echo(table([Row(**row) for row in manifest.verification]))
    size = sum(record.size for record in manifest.files.values())
    targets = ", ".join(manifest.targets)
    click.echo(f"{output}: {manifest.precision}, for {targets}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
