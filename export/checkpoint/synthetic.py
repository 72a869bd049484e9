"""Checkpoints without a download: every tensor is a function of its name and shape.

The images they make are noise, but they export, run and take the time and memory of the real
model, and an independent implementation with the same function gives the same numbers. From the
command line: ``python -m dossr.export.checkpoint.synthetic full.ckpt`` (6.9 GB, the official sizes).
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from ...runtime.files import whole_file
from .config import CONDITION, OFFICIAL, RESTORER, VAE, Shape
from .layout import layout


def synthetic_tensor(name: str, shape: Shape) -> Tensor:
    """One tensor: seeded by its name, scaled by its fan-in, rounded to float16, as float32."""
    random = np.random.RandomState(zlib.crc32(name.encode()))  # its stream never changes
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
    """The state dict of a layout. ``shared_encoder``: cond_encoder is the VAE encoder's copy."""
    state = {}
    for name, shape in shapes.items():
        source = name
        if shared_encoder and name.startswith(CONDITION):
            source = VAE + name.removeprefix(CONDITION)
        state[name] = synthetic_tensor(source, tuple(shape))
    return state


@click.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--layout",
    "layout_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file with the shape of every tensor by name.  [default: the official model]",
)
@click.option("--separate-encoder", is_flag=True, help="Give cond_encoder weights of its own.")
def main(out: Path, layout_file: Path | None, separate_encoder: bool) -> None:
    """Write a checkpoint OUT in the official layout with synthetic weights."""
    shapes = json.loads(layout_file.read_text()) if layout_file else layout(OFFICIAL)
    with whole_file(out) as temporary:
        torch.save(synthetic_state(shapes, shared_encoder=not separate_encoder), temporary)


if __name__ == "__main__":
    main()
