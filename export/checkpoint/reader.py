"""Reads a DoSSR checkpoint: tensors only, memory-mapped, under their official names."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...runtime.bundle import placeholder, sha256
from ..errors import CheckpointError
from .config import (
    CONDITION,
    CONTROL,
    OFFICIAL,
    RELEASED,
    RESTORER,
    UNET,
    VAE,
    ModelConfig,
)
from .derivation import Hints, derive_config
from .layout import layout
from .model_yaml import check_yaml, hints, read_yaml
from .state_dict import read_state_dict

_NAMED = 3  # most faults that an error message names
_KNOWN = (
    UNET,
    CONTROL,
    VAE,
    CONDITION,
    RESTORER,
)  # prefixes below which every tensor must be known
_PASSED_OVER = (f"{VAE}loss.",)  # used in training only
_BUFFERS = ("position_ids", "attn_mask", "num_batches_tracked")  # of some versions of the libraries


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a DoSSR checkpoint: complete, each with its official shape."""

    path: Path
    sha256: str
    config: ModelConfig
    heads_inferred: bool
    """Whether numbers of attention heads were inferred: without a YAML file, unless sizes are official."""

    tensors: Mapping[str, Tensor]
    """By official name, in the checkpoint's dtype; memory-mapped and read-only."""

    weights: str = "all"
    """Which of the file's weights these are, in words."""

    def part(self, *prefixes: str) -> dict[str, Tensor]:
        """Return the tensors below some prefixes, by full name, in float32."""
        return {n: t.float() for n, t in self.tensors.items() if n.startswith(prefixes)}

    @property
    def shares_encoder(self) -> bool:
        """Return whether cond_encoder has the same weights as the VAE encoder."""
        return all(
            torch.equal(tensor.float(), self.tensors[VAE + name.removeprefix(CONDITION)].float())
            for name, tensor in self.tensors.items()
            if name.startswith(CONDITION)
        )


def read_checkpoint(
    path: Path,
    yaml_path: Path | None = None,
    advance: Callable[[int], None] | None = None,
    *,
    ema: bool = False,
    objective: str = RELEASED,
) -> Checkpoint:
    """Open a ``.ckpt`` or ``.safetensors`` file; nothing in it is ever executed.

    The state dict may be bare or in containers such as ``state_dict``, and names may have ``module.``
    and ``_orig_mod.`` anywhere. ``ema`` takes the moving average of the weights, which some files hold
    too. ``objective``: of the training recipe, which the YAML file must state. ``advance`` is called with the number of bytes just hashed. Raise CheckpointError in one line
    that names the fault.
    """
    params, said = _read_hints(yaml_path, objective)
    tensors, weights = read_state_dict(path, ema)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = derive_config(shapes, said)
        with _naming(yaml_path):
            check_yaml(params, config)
        _check(shapes, config)
        _check_dtypes(tensors, config)
        _check_schedule(tensors, config)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Checkpoint(
        path=path,
        sha256=sha256(path, advance),
        config=config,
        heads_inferred=yaml_path is None
        and (config.unet, config.text) != (OFFICIAL.unet, OFFICIAL.text),
        tensors={name: tensors[name] for name in layout(config)},
        weights=weights,
    )


def _read_hints(path: Path | None, objective: str) -> tuple[dict[str, Any], Hints]:
    """Return a YAML file's parameters and its hints. Raise CheckpointError that names the file."""
    if path is None:
        return {}, Hints()
    instead = placeholder(path)
    if instead:
        raise CheckpointError(f"{path} must be the model's YAML file; {instead}")
    with _naming(path):
        params = read_yaml(path)
        return params, hints(params, objective)


@contextmanager
def _naming(path: Path | None) -> Iterator[None]:
    """Turn any error caused by a malformed YAML file into a CheckpointError that names the file."""
    try:
        yield
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} must be the official model YAML, but it is malformed: {error}"
        ) from error


def _check(shapes: Mapping[str, tuple[int, ...]], config: ModelConfig) -> None:
    """Raise CheckpointError unless every network tensor is present, known and of its shape."""
    wanted = layout(config)
    faults = [
        f"tensor '{name}' is missing"
        if name not in shapes
        else f"tensor '{name}' must have shape {list(shape)}, got {list(shapes[name])}"
        for name, shape in wanted.items()
        if shapes.get(name) != shape
    ]
    faults += [
        f"tensor '{name}' belongs to none of DoSSR's networks"
        for name in shapes
        if name not in wanted
        and name.startswith(_KNOWN)
        and not name.startswith(_PASSED_OVER)
        and not name.endswith(_BUFFERS)
    ]
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise CheckpointError("; ".join(faults[:_NAMED]) + more)


def _check_dtypes(tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise CheckpointError if weights are quantized to integers."""
    for name in layout(config):
        if not tensors[name].is_floating_point():
            kind = str(tensors[name].dtype).removeprefix("torch.")
            raise CheckpointError(
                f"tensor '{name}' must hold floating-point numbers, got {kind}; "
                "export the checkpoint from before it was quantized"
            )


def _check_schedule(tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise CheckpointError where the checkpoint was trained with another noise schedule."""
    stored = tensors.get("alphas_cumprod")
    if stored is None:
        return
    ours = config.levels.alpha_bar()
    theirs = stored.detach().float().numpy()
    tolerance = 1e-4 if stored.element_size() >= 4 else 1e-2  # half-precision checkpoints
    if theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=tolerance, atol=1e-5):
        raise CheckpointError(
            "'alphas_cumprod' must be the noise schedule of the configuration (linear_start, "
            "linear_end, timesteps), and it differs; give the model's YAML file with --config"
        )
