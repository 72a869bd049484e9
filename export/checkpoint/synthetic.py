"""Synthetic weights: every tensor is a function of its name and shape, so no download is needed.

A checkpoint of them exports and runs, and takes the time and memory of the real model; its images
are noise. Another implementation of the same function gives the same numbers. On the command line:
``python -m dossr.export.checkpoint.synthetic full.ckpt`` (6.9 GB, the official sizes).
"""

import math
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from ...runtime.files import whole_file
from ...runtime.terminal import Command, say
from .config import CONDITION, OFFICIAL, RESTORER, VAE, Shape
from .layout import layout

_NAME = "dossr.export.checkpoint.synthetic"


def synthetic_tensor(name: str, shape: Shape) -> Tensor:
    """Return one tensor in float32: seeded by its name, scaled by its fan-in, rounded to float16."""
    random = np.random.RandomState(zlib.crc32(name.encode()))  # its stream is frozen by NumPy
    weight = random.standard_normal(shape)
    if len(shape) >= 2:
        weight /= math.sqrt(math.prod(shape[1:]))
    elif len(shape) == 1 and name.endswith(".weight"):
        weight = 1.0 + 0.05 * weight
    else:
        weight = np.asarray(0.05 * weight)
    if name == f"{RESTORER}conv_last.bias":
        weight += 0.45
    if name == f"{RESTORER}conv_last.weight":
        weight *= 2.0
    return torch.from_numpy(np.asarray(weight).astype(np.float16).astype(np.float32))


def synthetic_state(shapes: Mapping[str, Shape], shared_encoder: bool = False) -> dict[str, Tensor]:
    """Return the state dict of a layout. ``shared_encoder``: cond_encoder copies the VAE encoder."""

    def tensor(name: str) -> Tensor:
        source = name
        if shared_encoder and name.startswith(CONDITION):
            source = VAE + name.removeprefix(CONDITION)
        return synthetic_tensor(source, tuple(shapes[name]))

    with ThreadPoolExecutor() as executor:  # NumPy draws without the interpreter's lock
        return dict(zip(shapes, executor.map(tensor, shapes), strict=True))


@click.command(_NAME, cls=Command)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--separate-encoder", is_flag=True, help="Give cond_encoder weights of its own.")
def main(out: Path, separate_encoder: bool) -> None:
    """Write a checkpoint OUT in the official layout with synthetic weights."""
    if out.exists():
        raise click.UsageError(f"{out} exists; choose another file or remove it")
    if not out.parent.is_dir():
        raise click.UsageError(f"folder {out.parent} does not exist; make it first")
    try:
        with whole_file(out, replace=False) as temporary:
            torch.save(
                synthetic_state(layout(OFFICIAL), shared_encoder=not separate_encoder), temporary
            )
    except RuntimeError as error:  # torch's own, for example on a full disk
        say(_NAME, f"cannot write {out}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
