"""Reading a DoSSR checkpoint: tensors only, memory-mapped, under their official names."""

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

_NAMED = 3  # faults that an error message names
_KNOWN = (UNET, CONTROL, VAE, CONDITION, RESTORER)  # nothing below these may be left out
_PASSED_OVER = (f"{VAE}loss.",)  # of training


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a DoSSR checkpoint, complete and of the right shapes."""

    path: Path
    sha256: str
    config: ModelConfig
    heads_assumed: bool
    """Whether the heads of a network that is not the released one were guessed from its widths."""

    tensors: Mapping[str, Tensor]
    """By official name, in the checkpoint's own dtype; read-only memory of the file."""

    def part(self, *prefixes: str) -> dict[str, Tensor]:
        """The tensors below some prefixes, with their full names, in float32."""
        return {n: t.float() for n, t in self.tensors.items() if n.startswith(prefixes)}

    @property
    def shares_encoder(self) -> bool:
        """Whether cond_encoder holds the same weights as the VAE encoder."""
        return all(
            torch.equal(tensor.float(), self.tensors[VAE + name.removeprefix(CONDITION)].float())
            for name, tensor in self.tensors.items()
            if name.startswith(CONDITION)
        )


def read_checkpoint(
    path: Path, yaml_path: Path | None = None, advance: Callable[[int], None] | None = None
) -> Checkpoint:
    """Open a ``.ckpt`` or ``.safetensors`` file; nothing in it is ever executed.

    The state dict may be bare or under ``state_dict``, with or without ``module.`` before every
    name. ``advance`` is called with the number of bytes read while the file is hashed. Raises
    CheckpointError in one line that names the fault.
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
        heads_assumed=yaml_path is None
        and (config.unet, config.text) != (OFFICIAL.unet, OFFICIAL.text),
        tensors={name: tensors[name] for name in layout(config)},
    )


def _read_hints(path: Path | None) -> tuple[dict[str, Any], Hints]:
    """A YAML file's parameters and what only they say. Raises CheckpointError that names the file."""
    if path is None:
        return {}, Hints()
    with _naming(path):
        params = read_yaml(path)
        return params, hints(params)


@contextmanager
def _naming(path: Path | None) -> Iterator[None]:
    """Turn what a malformed YAML file sets off into a CheckpointError that names the file."""
    try:
        yield
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no sound model YAML: {error}") from error


def _load(path: Path) -> dict[str, Tensor]:
    """The state dict in a file, by its own names."""
    try:
        if _is_safetensors(path):
            found: Any = load_file(path)
        else:
            found = _torch_load(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it holds more than tensors, and loading it could run code, or it "
            "is damaged; download it again, or save its tensors with safetensors and export those"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "nothing in it"
        raise CheckpointError(
            f"{path} is no readable checkpoint, or it is cut off; download it again ({reason})"
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} must hold a state dict, got {type(found).__name__}")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _is_safetensors(path: Path) -> bool:
    """By content: eight bytes of header length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{" or path.suffix.lower() == ".safetensors"


def _torch_load(path: Path) -> Any:
    """torch.load with tensors only; files from before torch 1.6 cannot be memory-mapped."""
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; what is wrong is raised
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


def _official(name: str) -> str:
    name = name.removeprefix("module.")
    if name.startswith(RESTORER):
        return RESTORER + basicsr_name(name.removeprefix(RESTORER).removeprefix("module."))
    return name


def _check(shapes: Mapping[str, tuple[int, ...]], config: ModelConfig) -> None:
    """Raise unless the networks' tensors are these, each in its shape."""
    wanted = layout(config)
    faults = [
        f"tensor '{name}' is missing"
        if name not in shapes
        else f"tensor '{name}' must have shape {list(shape)}, got {list(shapes[name])}"
        for name, shape in wanted.items()
        if shapes.get(name) != shape
    ]
    faults += [
        f"tensor '{name}' belongs to no network of DoSSR's kind"
        for name in shapes
        if name not in wanted and name.startswith(_KNOWN) and not name.startswith(_PASSED_OVER)
    ]
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise CheckpointError("; ".join(faults[:_NAMED]) + more)


def _check_schedule(tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise where the checkpoint was trained with another noise schedule."""
    stored = tensors.get("alphas_cumprod")
    if stored is None:
        return
    ours = config.levels.alpha_bar()
    theirs = stored.detach().float().numpy()
    tolerance = 1e-4 if stored.element_size() >= 4 else 1e-2  # half-precision checkpoints
    if theirs.shape != ours.shape or not np.allclose(theirs, ours, rtol=tolerance, atol=1e-5):
        raise CheckpointError(
            "'alphas_cumprod' is not the noise schedule of the configuration; give the model's "
            "YAML file with --config (linear_start, linear_end, timesteps)"
        )
