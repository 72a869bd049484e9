"""Prints what ONNX Runtime's CUDA provider makes of .onnx files, on a machine without a GPU.

``python partition.py bundle/*.cuda.onnx --size batch=1 --size height=64 --size width=64``
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from libraries import PROVIDER, compile_stubs, environment

_SESSIONS = Path(__file__).with_name("sessions.py")


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True)
@click.option("--size", "sizes", multiple=True, metavar="AXIS=N", help="Fix an axis.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the provider.")
@click.option("--operators", is_flag=True, help="Print how often each operator occurs.")
def main(
    files: tuple[str, ...], sizes: tuple[str, ...], options: tuple[str, ...], operators: bool
) -> None:
    """Print a row a file: launches, nodes on the CPU, copies between host and device."""
    request = {
        "files": files,
        "sizes": {axis: int(size) for axis, size in (text.split("=") for text in sizes)},
        "options": dict(text.split("=") for text in options),
    }
    if not PROVIDER.is_file():
        raise click.ClickException(f"{PROVIDER} must be there; run make test once")
    with tempfile.TemporaryDirectory() as folder:
        compile_stubs(PROVIDER, Path(folder))
        command = [sys.executable, str(_SESSIONS), json.dumps(request)]
        done = subprocess.run(
            command, env=environment(Path(folder)), capture_output=True, text=True
        )
    if done.returncode:
        raise click.ClickException(done.stderr)
    width = max(map(len, files))
    click.echo(f"{'file':<{width}}  launches  on the CPU  copies")
    for name, found in zip(files, json.loads(done.stdout.splitlines()[-1]), strict=True):
        click.echo(f"{name:<{width}}  {_row(found)}")
        if operators:
            counts = found.get("operators", {}).items()
            click.echo("  " + ", ".join(f"{n} {operator}" for operator, n in counts))


def _row(found: dict[str, Any]) -> str:
    if "refused" in found:
        return f"refused: {found['refused']}"
    return f"{found['launches']:>8}  {sum(found['cpu'].values()):>10}  {found['copies']:>6}"


if __name__ == "__main__":
    main()
