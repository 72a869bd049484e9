"""``dossr-bench serve``: what the clients of a served model see."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ...runtime.tensors import Image
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..rounding import NOTHING, significant
from ..tables import markdown_table
from .server import ServerError, running

if TYPE_CHECKING:
    from .load import Load

_HEAD = (
    "clients",
    "requests",
    "failed",
    "p50 (s)",
    "p99 (s)",
    "images/s",
    "in queue (s)",
    "in model (s)",
)


@click.command("serve", cls=Command)
@click.argument("repository", required=False,
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
@click.option("--url", metavar="HOST:PORT", help="Measure a server that runs already (HTTP).")
@click.option("--server", default="tritonserver", show_default=True, metavar="PROGRAM",
              help="The program that is started for REPOSITORY.")  # fmt: skip
@click.option("--model", default="dossr", show_default=True, help="Its name on the server.")
@click.option("--clients", type=click.IntRange(1), multiple=True, default=(1, 4), show_default=True,
              help="Clients that send requests side by side; may be repeated.")  # fmt: skip
@click.option("--requests", type=click.IntRange(1), default=50, show_default=True,
              help="Requests of all clients together.")  # fmt: skip
@click.option("--size", type=click.IntRange(1), default=64, show_default=True,
              help="Side of the LR image in pixels.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def serve(
    repository: Path | None,
    url: str | None,
    server: str,
    model: str,
    clients: tuple[int, ...],
    requests: int,
    size: int,
    steps: int,
    file: Path | None,
) -> None:
    """Measure latency and throughput of a model on NVIDIA's Triton Inference Server.

    REPOSITORY, from dossr-export --triton, is served on this machine while it is measured; or give
    --url. Every request is one image as a raw array. One request goes first and is not counted.

    \b
    Examples:
      dossr-bench serve models --clients 4
      dossr-bench serve models --server .triton/pytriton/tritonserver/bin/tritonserver
      dossr-bench serve --url gpu-host:8000 --clients 1 --clients 16 --json serve.json

    Exit code: 0 done, 1 some requests failed or no server started, 2 wrong use.
    """
    if (repository is None) == (url is None):
        raise click.UsageError(
            "give a model repository, or --url of a server that runs; one of both"
        )
    make_folders(file and file.parent)
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    with _server(repository, url, server) as address:
        loads = _measured(address, model, image, steps, clients, requests)
    click.echo(table(clients, loads))
    click.echo(f"\n{size} x {size} pixels, steps: {steps}, raw arrays over HTTP")
    reasons = sorted({reason for load in loads for reason in load.failures})
    for reason in reasons:
        click.echo(f"failed: {reason}")
    if file is not None:
        from ..measure.provenance import save

        rows = [_record(*each) for each in zip(clients, loads, strict=True)]
        save({"model": model, "size": size, "steps": steps, "rows": rows}, file)
    if reasons:
        sys.exit(1)


@contextmanager
def _server(repository: Path | None, url: str | None, program: str) -> Iterator[str]:
    """Yield the address of the server; start one for a repository."""
    if repository is None:
        assert url is not None
        yield url.removeprefix("http://").rstrip("/")
        return
    found = shutil.which(program)
    if found is None:
        raise click.UsageError(
            f"--server must be the program of NVIDIA's Triton Inference Server, and '{program}' is not "
            "found; its container has it, and the wheel: pip install nvidia-pytriton"
        )
    try:
        with running(repository, Path(found)) as address:
            yield address
    except ServerError as error:
        raise click.ClickException(str(error)) from error


def _measured(
    address: str, model: str, image: Image, steps: int, clients: Sequence[int], requests: int
) -> "list[Load]":
    try:
        from .load import check_model, send_requests
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error}; install it with: pip install 'tritonclient[http]'"
        ) from error
    try:
        check_model(address, model)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    send_requests(address, model, image, steps=steps, clients=1, requests=1, advance=lambda n: None)
    loads = []
    for number in clients:
        with Terminal().phase(f"clients: {number}", requests) as advance:
            loads.append(
                send_requests(
                    address,
                    model,
                    image,
                    steps=steps,
                    clients=number,
                    requests=requests,
                    advance=advance,
                )
            )
    return loads


def table(clients: Sequence[int], loads: "Sequence[Load]") -> str:
    """Return a row for each number of clients, in Markdown."""
    return markdown_table(_HEAD, map(_cells, clients, loads))


def _cells(clients: int, load: "Load") -> list[str]:
    times = (load.quantile(0.5), load.quantile(0.99))
    return [
        str(clients),
        str(len(load.seconds) + len(load.failures)),
        str(len(load.failures)) if load.failures else NOTHING,
        *map(significant, (*times, load.images_per_s, load.queue_s, load.model_s)),
    ]


def _record(clients: int, load: "Load") -> dict[str, Any]:
    """Return the measured and the derived figures of a row."""
    return {
        "clients": clients,
        "p50_s": load.quantile(0.5),
        "p99_s": load.quantile(0.99),
        "images_per_s": load.images_per_s,
        "queue_s": load.queue_s,
        "model_s": load.model_s,
        "elapsed_s": load.elapsed_s,
        "seconds": load.seconds,
        "failures": load.failures,
    }
