"""Assembles trained networks to a checkpoint in the official layout, with its YAML file."""

from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor

from ...runtime.files import write_whole
from ..checkpoint.config import CONDITION, CONTROL, RESTORER, TEXT, UNET, VAE, ModelConfig, Shape
from ..checkpoint.layout import layout
from ..checkpoint.synthetic import synthetic_state
from ..networks.autoencoder import autoencoder
from ..networks.denoiser import new_denoiser

States = dict[str, dict[str, Tensor]]


def text_state(config: ModelConfig) -> dict[str, Tensor]:
    """Return the text tower's synthetic weights; for one constant prompt, no training is needed."""
    shapes = {name: shape for name, shape in layout(config).items() if name.startswith(TEXT)}
    return synthetic_state(shapes)


def official_state(config: ModelConfig, states: States) -> dict[str, Tensor]:
    """Return one state dict with official names; cond_encoder is a copy of the VAE encoder.

    ``states``: the state dicts of ``restorer``, ``vae``, ``unet`` and ``control``.
    """
    wanted = layout(config)
    state = {RESTORER + name: tensor for name, tensor in states["restorer"].items()}
    for name, ours in _names(config, wanted).items():
        part, _, key = ours.partition("/")
        state[name] = states[part][key].reshape(wanted[name])
    for name in wanted:
        if name.startswith(CONDITION):
            state[name] = state[VAE + name.removeprefix(CONDITION)]
    state |= text_state(config)
    return {name: state[name].detach().float().cpu().contiguous() for name in wanted}


def _names(config: ModelConfig, wanted: dict[str, Shape]) -> dict[str, str]:
    """Map official names to ``part/diffusers name``, by converting tensors filled with numbers."""
    names = [name for name in wanted if name.startswith((UNET, CONTROL, VAE))]
    numbered = {name: torch.full(wanted[name], float(i)) for i, name in enumerate(names)}
    network, vae = new_denoiser(config), autoencoder(config)
    converted = {
        "unet": convert_ldm_unet_checkpoint(_below(numbered, UNET), network.unet.config),
        "control": convert_controlnet_checkpoint(_below(numbered, CONTROL), network.control.config),
        "vae": convert_ldm_vae_checkpoint(_below(numbered, VAE), vae.config),
    }
    return {
        names[int(tensor.flatten()[0])]: f"{part}/{key}"
        for part, state in converted.items()
        for key, tensor in state.items()
    }


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def write_yaml(config: ModelConfig, path: Path, objective: str) -> None:
    """Write the official YAML file: all settings that the tensors' shapes do not determine."""
    document: dict[str, Any] = {
        "target": "model.cldm.ControlLDM",
        "params": {
            "objective": objective,
            "linear_start": config.levels.linear_start,
            "linear_end": config.levels.linear_end,
            "timesteps": config.levels.timesteps,
            "scale_factor": config.latent_scale,
            "unet_config": {
                "params": {
                    "num_head_channels": config.unet.channels[0] // config.unet.heads[0],
                    "norm_num_groups": config.unet.groups,
                }
            },
            "first_stage_config": {"params": {"ddconfig": {"norm_num_groups": config.vae.groups}}},
            "cond_stage_config": {"params": {"heads": config.text.heads}},
        },
    }
    write_whole(path, yaml.safe_dump(document, sort_keys=False).encode())
