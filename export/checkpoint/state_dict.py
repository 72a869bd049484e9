"""Finds a model's weights in a file: formats, containers, averages and names that training tools leave."""

import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...runtime.bundle import placeholder
from ..errors import CheckpointError
from ..networks.restorer import basicsr_name
from .archive import Inert, read_archive
from .config import RESTORER

_PLAIN = ("state_dict", "params", "model_state_dict", "model", "module", "net")
_AVERAGED = ("params_ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema")
_LIT_EMA = "model_ema."
_DEEPEST = 4  # containers in containers
_WRAPPERS = ("_orig_mod", "module")  # of torch.compile and DataParallel

_DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, KeyError, SafetensorError, zipfile.BadZipFile,
    TypeError, AttributeError, IndexError, OverflowError, MemoryError, RecursionError, NotImplementedError,
    struct.error, zlib.error,
)  # fmt: skip
"""What a damaged archive or pickle raises."""


def read_state_dict(path: Path, ema: bool = False) -> tuple[dict[str, Tensor], str]:
    """Return a model's tensors by their names in the networks, and which weights they are, in words.

    With ``ema``, the exponential moving average of training replaces the weights that it has. Raise
    CheckpointError in one line if the file has no weights of that kind or cannot be read.
    """
    found, said = _chosen(path, _load(path), ema)
    tensors = {
        _official(str(name)): value for name, value in found.items() if isinstance(value, Tensor)
    }
    averaged = {
        name.removeprefix(_LIT_EMA).replace(".", ""): value
        for name, value in tensors.items()
        if name.startswith(_LIT_EMA)
    }
    tensors = {name: value for name, value in tensors.items() if not name.startswith(_LIT_EMA)}
    if not averaged:
        return tensors, said
    if not ema:
        return tensors, f"{said}; their moving average ({_LIT_EMA}*) is left out, --ema takes it"
    replaced = _averaged(tensors, averaged)
    if not replaced:
        raise CheckpointError(f"{path}: no name of {_LIT_EMA}* is that of a tensor beside it")
    return tensors | replaced, f"{said}, {len(replaced)} of {len(tensors)} from {_LIT_EMA}*"


def _load(path: Path) -> Any:
    """Return what a file holds: tensors in containers; nothing that a pickle names is run."""
    instead = placeholder(path)
    if instead:
        raise CheckpointError(f"{path} must be a checkpoint; {instead}")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles; faults are raised anyway
            if start[8:] == b"{" or path.suffix.lower() == ".safetensors":  # by content, or by name
                return load_file(path)
            if start.startswith(b"PK\x03\x04"):
                return read_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)  # before torch 1.6
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} must hold tensors only; it is damaged, or holds objects whose loading could run "
            "code; download it again, or save its tensors with safetensors and export those"
        ) from error
    except _DAMAGE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is empty"
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason:.200}); if it is truncated, download it again"
        ) from error


def _chosen(
    path: Path, found: Any, ema: bool, depth: int = _DEEPEST
) -> tuple[Mapping[Any, Any], str]:
    """Return the weights inside nested containers, and the names of these containers.

    Averaged weights are laid over the others where both exist, as they may be those of a part.
    """
    if not isinstance(found, Mapping) or (isinstance(found, Inert) and not found):
        kind = "an object" if isinstance(found, Inert) else type(found).__name__
        raise CheckpointError(
            f"{path} must hold a state dict, got {kind}; save the model's state_dict()"
        )
    plain, averaged = _inner(found, _PLAIN, depth), _inner(found, _AVERAGED, depth)
    if averaged and (ema or (plain is None and not _has_tensors(found, 1))):
        weights, said = _chosen(path, found[averaged], False, depth - 1)
        said = _joined(averaged, said)
        if plain is None:
            return weights, said
        others, other = _chosen(path, found[plain], False, depth - 1)
        return {**others, **weights}, f"{said} over {_joined(plain, other)}"
    if plain:
        weights, said = _chosen(path, found[plain], ema, depth - 1)
        said = _joined(plain, said)
    else:
        weights, said = found, "all"
        if ema and not any(_official(str(name)).startswith(_LIT_EMA) for name in found):
            names = ", ".join(_AVERAGED)
            raise CheckpointError(
                f"{path} has no moving average ({names} or {_LIT_EMA}*); leave out --ema"
            )
    return weights, f"{said}; {averaged} is left out, --ema takes it" if averaged else said


def _inner(found: Mapping[Any, Any], names: tuple[str, ...], depth: int) -> str | None:
    """Return the first of these containers that has tensors, down to a depth."""
    return next((name for name in names if _has_tensors(found.get(name), depth)), None)


def _has_tensors(found: Any, depth: int) -> bool:
    """Return whether a container has tensors, itself (depth 1) or in its containers."""
    return (
        depth > 0
        and isinstance(found, Mapping)
        and any(isinstance(v, Tensor) or _has_tensors(v, depth - 1) for v in found.values())
    )


def _joined(outer: str, inner: str) -> str:
    return outer if inner == "all" else f"{outer}.{inner}"


def _averaged(tensors: Mapping[str, Tensor], averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those tensors that LDM's LitEma averages, under their own names.

    LitEma takes the dots out of names, and is part of ``model`` in LDM and of any module elsewhere.
    """
    found = {}
    for name in tensors:
        for key in (name, name.removeprefix("model.")):
            value = averaged.get(key.replace(".", ""))
            if value is not None and value.shape == tensors[name].shape:
                found[name] = value
    return found


def _official(name: str) -> str:
    """Return a name without wrappers, and BasicSR's name of a tensor of the restorer."""
    name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    if name.startswith(RESTORER):
        return RESTORER + basicsr_name(name.removeprefix(RESTORER))
    return name
