"""Reads a DoSSR checkpoint: tensors only, memory-mapped, under their official names."""

import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...runtime.bundle import sha256
from ..errors import CheckpointError
from ..networks.restorer import basicsr_name
from .config import (
    CONDITION,
    CONTROL,
    OFFICIAL,
    RESTORER,
    UNET,
    VAE,
    ModelConfig,
)
from .derivation import Hints, derive_config
from .layout import layout
from .model_yaml import check_yaml, hints, read_yaml

_NAMED = 3  # most faults that an error message names
_KNOWN = (
    UNET,
    CONTROL,
    VAE,
    CONDITION,
    RESTORER,
)  # prefixes below which every tensor must be known
_PASSED_OVER = (f"{VAE}loss.",)  # used in training only


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
    path: Path, yaml_path: Path | None = None, advance: Callable[[int], None] | None = None
) -> Checkpoint:
    """Open a ``.ckpt`` or ``.safetensors`` file; nothing in it is ever executed.

    The state dict may be bare or under ``state_dict``, and names may start with ``module.``.
    ``advance`` is called with the number of bytes just hashed. Raise CheckpointError in one line
    that names the fault.
    """
    params, said = _read_hints(yaml_path)
    tensors = {_official(name): tensor for name, tensor in _load(path).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        config = derive_config(shapes, said)
        with _naming(yaml_path):
            check_yaml(params, config)
        _check(shapes, config)
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
    )


def _read_hints(path: Path | None) -> tuple[dict[str, Any], Hints]:
    """Return a YAML file's parameters and its hints. Raise CheckpointError that names the file."""
    if path is None:
        return {}, Hints()
    with _naming(path):
        params = read_yaml(path)
        return params, hints(params)


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


def _load(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a file, under the names it has there."""
    try:
        if _is_safetensors(path):
            found: Any = load_file(path)
        else:
            found = _torch_load(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} must hold tensors only; it is damaged, or holds objects whose loading could run "
            "code; download it again, or save its tensors with safetensors and export those"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is empty"
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}); if it is truncated, download it again"
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} must hold a state dict, got {type(found).__name__}")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _is_safetensors(path: Path) -> bool:
    """Recognise the format by content: eight bytes of header length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix.lower() == ".safetensors"


def _torch_load(path: Path) -> Any:
    """Load tensors only, memory-mapped unless the file is older than torch 1.6."""
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; faults are raised anyway
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _official(name: str) -> str:
    name = name.removeprefix("module.")
    if name.startswith(RESTORER):
        return RESTORER + basicsr_name(name.removeprefix(RESTORER).removeprefix("module."))
    return name


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
        if name not in wanted and name.startswith(_KNOWN) and not name.startswith(_PASSED_OVER)
    ]
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise CheckpointError("; ".join(faults[:_NAMED]) + more)


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
