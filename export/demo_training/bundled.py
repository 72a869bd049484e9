"""Recovers the weights of a demo bundle, to train its networks further without their checkpoint.

The export keeps the names of most weights. Weights of linear layers are transposed and lose their
names; the bias or the norm beside them identifies them. Projections of the prompt are folded in;
they are solved for, as the prompt and the results are known.
"""

import json
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor

from ...runtime.bundle import Bundle, Target
from ..checkpoint.config import ModelConfig
from ..networks.autoencoder import autoencoder
from ..networks.denoiser import new_denoiser
from ..networks.restorer import new_restorer
from .recipe import DEMO

State = dict[str, Tensor]

_AFTER_NORM = {"norm1": ("attn1.to_q", "attn1.to_k", "attn1.to_v"), "norm2": ("attn2.to_q",)}
"""Linear layers without a bias, by the norm whose output they take, in order."""

_FOLDED = ".projected"
_TARGET: Target = "cpu"  # it changes no weight; float16 ones have a Cast behind them


def bundle_config(bundle: Bundle) -> ModelConfig:
    """Return the recipe's configuration with the bundle's latent scale.

    Raise ValueError where the bundle's networks have other sizes.
    """
    config = replace(DEMO, latent_scale=bundle.manifest.latent_scale)
    if json.loads(json.dumps(config.as_dict())) != bundle.manifest.model:
        raise ValueError(
            f"{bundle.folder} must hold networks of the recipe's sizes, and it does not; "
            "train without --start"
        )
    return config


def below(state: State, prefix: str) -> State:
    """Return the tensors below a prefix, without the prefix."""
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def bundle_states(bundle: Bundle, prompt: Tensor) -> dict[str, State]:
    """Return the states of ``restorer``, ``vae`` and ``denoiser`` in float32, as the bundle rounds them.

    ``prompt``: the embedding that was folded in, (1, positions, width). Raise ValueError where a
    weight is missing.
    """
    config = bundle_config(bundle)
    with torch.device("meta"):
        wanted = {
            "restorer": new_restorer(config.restorer).state_dict(),
            "vae": autoencoder(config).state_dict(),
            "denoiser": new_denoiser(config).state_dict(),
        }
    found = {
        "restorer": below(_weights(bundle.path("restorer", _TARGET)), "network."),
        "vae": _weights(bundle.path("encoder", _TARGET))
        | _weights(bundle.path("decoder", _TARGET)),
        "denoiser": _unfolded(_weights(bundle.path("denoiser", _TARGET)), prompt[0]),
    }
    return {name: _chosen(found[name], wanted[name], bundle) for name in wanted}


def _chosen(found: State, wanted: State, bundle: Bundle) -> State:
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            raise ValueError(
                f"{bundle.folder} must hold the weight '{name}', and it is missing; "
                "train without --start"
            )
    return {name: found[name] for name in wanted}


def _weights(path: Path) -> State:
    """Return every weight of an ``.onnx`` file by its name in torch."""
    graph = ir.load(path).graph
    found = {_torch_name(v): _tensor(v) for v in graph.initializers.values()}
    seen: dict[str, int] = {}
    for node in graph:
        weight = _stored(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is not None:
            found[_linear_name(node, seen)] = _tensor(weight).T.contiguous()
        if node.op_type == "Conv" and len(node.inputs) == 3:
            _, kernel, bias = map(_stored, node.inputs)
            assert kernel is not None
            assert bias is not None
            # biases of one sum train alike, and the exporter stores equal tensors once
            found.setdefault(_torch_name(kernel).removesuffix("weight") + "bias", _tensor(bias))
    return found


def _linear_name(node: ir.Node, seen: dict[str, int]) -> str:
    """Return the name of a product's weight; ``seen`` counts the products after each norm."""
    for user, _ in node.outputs[0].uses():
        for value in map(_stored, user.inputs if user.op_type == "Add" else ()):
            if value is not None:
                return _torch_name(value).removesuffix("bias") + "weight"
    assert node.inputs[0] is not None
    norm = node.inputs[0].producer()
    is_norm = norm is not None and norm.op_type == "LayerNormalization"
    scale = _stored(norm.inputs[1]) if norm is not None and is_norm else None
    if scale is None:
        return f"product {node.name}"
    block, _, name = _torch_name(scale).removesuffix(".weight").rpartition(".")
    number = seen[block + name] = seen.get(block + name, -1) + 1
    return f"{block}.{_AFTER_NORM[name][number]}.weight"


def _stored(value: ir.Value | None) -> ir.Value | None:
    """Return the initializer that a value is or is cast from; None if it is computed."""
    if value is not None and value.producer() is not None:
        producer = value.producer()
        value = producer.inputs[0] if producer is not None and producer.op_type == "Cast" else None
    return value if value is not None and value.is_initializer() else None


def _unfolded(found: State, prompt: Tensor) -> State:
    """Add the folded projections, which solve result = prompt @ weight.T."""
    solved = {
        name.removesuffix(_FOLDED) + ".weight": torch.linalg.lstsq(prompt, result[0]).solution.T
        for name, result in found.items()
        if name.endswith(_FOLDED)
    }
    return found | {name: weight.contiguous() for name, weight in solved.items()}


def _torch_name(value: ir.Value) -> str:
    return (value.name or "").removesuffix("_fp16")


def _tensor(value: ir.Value) -> Tensor:
    assert value.const_value is not None
    return torch.from_numpy(value.const_value.numpy().copy()).float()
