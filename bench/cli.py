"""``dossr-bench``: one subcommand a module. Heavy imports happen when a subcommand runs."""

import click

from .. import __version__
from ..runtime.terminal import Command
from .ablations.cli import formulations, samplers
from .accuracy.cli import accuracy
from .fleet.cli import fleet
from .objectives.cli import objectives
from .overhead import overhead
from .pipeline.cli import pipeline
from .predict.check_cli import predict_check
from .predict.cli import predict
from .scale.cli import scale
from .seeds import seeds
from .serve.cli import serve
from .sizes import sizes
from .start import start
from .table1.cli import table1
from .tiles import tiles


class Group(Command, click.Group):
    """A group of commands that prints errors as one line."""


@click.group("dossr-bench", cls=Group)
@click.version_option(__version__, prog_name="dossr-bench")
def main() -> None:
    """Measure DoSSR and the systems it is compared with on this machine."""


for command in (
    table1,
    formulations,
    samplers,
    pipeline,
    sizes,
    start,
    seeds,
    accuracy,
    objectives,
    tiles,
    overhead,
    predict,
    predict_check,
    scale,
    fleet,
    serve,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
