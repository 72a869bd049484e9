"""``upscale_dataset``: the options of ``dossr-run`` as keywords."""

import os
from collections.abc import Iterable
from typing import Any

import click

from ..cli.arguments import to_arguments
from ..cli.command import main
from .cluster import LOCAL
from .upscaling import Report, check_fleet, run_fleet

_HERE = ("inputs", "output", "ray", "compare", "dry_run", "as_json", "version")


def upscale_dataset(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    address: str = LOCAL,
    **options: Any,
) -> Report:
    """Upscale images on a Ray cluster, each once, and return what became of them.

    ``inputs``: image files, folders, ``@FILE`` (a list with one input a line) or URIs that pyarrow or
    fsspec knows, such as ``s3://bucket/photos``. ``output``: a folder or such a URI. ``address``: "local"
    starts a cluster on this machine, "auto" joins the one of this machine, "HOST:PORT" another one; a
    cluster that the program has joined already is used.

    ``options`` are those of ``dossr-run``, with underscores: ``bundle="s3://bucket/bundle"``, ``seed=7``,
    ``workers=8``, ``gpus_per_worker=0.5``, ``format="webp"``, ``overwrite=True``.

    A second call does only what is left: it reads the manifest in ``output``. An image that fails is
    an entry of ``Report.failures``. Raise ValueError for a wrong argument, or if the cluster cannot be
    had or has no room; OSError if a store does not answer.
    """
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    words = [os.fspath(each) for each in given]
    line = [*_words(options), "--ray", address, "--output", os.fspath(output), "--", *words]
    try:
        with main.make_context("dossr-run", line) as context:
            arguments = to_arguments(context.params)
        return run_fleet(check_fleet(arguments))
    except click.ClickException as error:
        raise ValueError(error.format_message()) from error


def _words(options: dict[str, Any]) -> list[str]:
    """Return keywords as words of a command line; None is an option that is not given."""
    known = {param.name: param for param in main.params if param.name not in _HERE}
    words: list[str] = []
    for name, value in options.items():
        param = known.get(name)
        if not isinstance(param, click.Option):
            raise ValueError(f"upscale_dataset has no option '{name}'; it has those of dossr-run")
        if param.is_flag:
            words += [] if value is None else (param.opts if value else param.secondary_opts)[-1:]
        elif value is not None:
            values = value if param.multiple and not isinstance(value, str) else [value]
            words += [word for each in values for word in (param.opts[-1], str(each))]
    return words
