"""Reads a model's official YAML file and checks it against the tensors.

The file is data: its ``target`` strings are never imported.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...runtime.tensors import SCALE
from ...solvers import NoiseLevels
from ..errors import CheckpointError
from .config import NORM_GROUPS, RELEASED, ModelConfig
from .derivation import Hints


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the ``params`` of the official YAML file. Raise CheckpointError where it has none."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read the configuration {path}: {reason}") from error
    document = document.get("model", document) if isinstance(document, dict) else None
    params = document.get("params") if isinstance(document, dict) else None
    if not isinstance(params, dict):
        raise CheckpointError(
            f"{path} must be the official model YAML, but it has no 'params' mapping"
        )
    return params


# (section, field, value): another value means another kind of network or process.
_FIXED = (
    ("", "parameterization", "eps"),
    ("", "beta_schedule", "linear"),  # LDM's name for "linear in the square root"
    ("", "only_mid_control", False),
    ("unet_config", "use_spatial_transformer", True),
    ("unet_config", "use_scale_shift_norm", False),
    ("unet_config", "resblock_updown", False),
    ("unet_config", "num_classes", None),
    ("cond_stage_config", "layer", "penultimate"),
    ("preprocess_config", "scale", SCALE),
)


def hints(params: Mapping[str, Any], objective: str = RELEASED) -> Hints:
    """Return what only the YAML file states.

    Raise CheckpointError for variants DoSSR does not have, and where the denoiser was trained for
    another ``objective`` (of the training recipe; official files state none).
    """
    if params.get("objective", RELEASED) != objective:
        raise CheckpointError(
            f"the denoiser must be trained for the objective {objective}, and the YAML file states "
            f"{params.get('objective', RELEASED)}; dossr-bench objectives runs the others"
        )
    for section, name, wanted in _FIXED:
        found = _params(params, section).get(name, wanted)
        if found != wanted:
            where = f"{section}.{name}".lstrip(".")
            raise CheckpointError(f"{where} must be {wanted} in the YAML file, got {found!r}")
    unet = _params(params, "unet_config")
    control = {**unet, **_params(params, "control_stage_config")}
    for name in ("num_head_channels", "num_heads", "norm_num_groups"):
        if control.get(name) != unet.get(name):
            raise CheckpointError(
                f"{name} must be the same in unet_config and control_stage_config"
            )
    defaults = NoiseLevels()
    return Hints(
        head_width=_count(unet, "num_head_channels"),
        head_count=_count(unet, "num_heads"),
        text_heads=_count(_params(params, "cond_stage_config"), "heads"),
        unet_groups=_count(unet, "norm_num_groups") or NORM_GROUPS,
        vae_groups=_count(_autoencoder(params), "norm_num_groups") or NORM_GROUPS,
        latent_scale=_number(params, "scale_factor", Hints.latent_scale),
        levels=NoiseLevels(
            linear_start=_number(params, "linear_start", defaults.linear_start),
            linear_end=_number(params, "linear_end", defaults.linear_end),
            timesteps=_count(params, "timesteps") or defaults.timesteps,
        ),
    )


def check_yaml(params: Mapping[str, Any], config: ModelConfig) -> None:
    """Raise CheckpointError where the YAML file contradicts the tensors."""
    unet, text = _params(params, "unet_config"), _params(params, "cond_stage_config")
    vae = _autoencoder(params)
    restorer = _params(params, "preprocess_config")
    base, ch = config.unet.channels[0], config.vae.channels[0]
    levels = tuple(2**i for i, has in enumerate(config.unet.attention) if has)
    facts: list[tuple[str, Any, Any]] = [
        ("unet_config.model_channels", unet.get("model_channels"), base),
        ("unet_config.channel_mult", _widths(unet, "channel_mult", base), config.unet.channels),
        ("unet_config.num_res_blocks", _same(unet.get("num_res_blocks")), config.unet.blocks),
        ("unet_config.attention_resolutions", _rising(unet.get("attention_resolutions")), levels),
        ("unet_config.in_channels", unet.get("in_channels"), config.unet.latent_channels),
        ("unet_config.context_dim", _same(unet.get("context_dim")), config.unet.context),
        ("unet_config.transformer_depth", _same(unet.get("transformer_depth")), config.unet.depth),
        (
            "unet_config.use_linear_in_transformer",
            unet.get("use_linear_in_transformer"),
            config.unet.linear,
        ),
        ("ddconfig.z_channels", vae.get("z_channels"), config.vae.latent_channels),
        ("ddconfig.ch", vae.get("ch"), ch),
        ("ddconfig.ch_mult", _widths(vae, "ch_mult", ch), config.vae.channels),
        ("ddconfig.num_res_blocks", vae.get("num_res_blocks"), config.vae.blocks),
        ("preprocess_config.num_feat", restorer.get("num_feat"), config.restorer.features),
        ("preprocess_config.num_block", restorer.get("num_block"), config.restorer.blocks),
        ("preprocess_config.num_grow_ch", restorer.get("num_grow_ch"), config.restorer.growth),
        ("cond_stage_config.width", text.get("width"), config.text.width),
        ("cond_stage_config.layers", text.get("layers"), config.text.layers),
    ]
    for name, said, found in facts:
        if said is not None and said != found:
            raise CheckpointError(
                f"{name} must be {found}, as in the checkpoint, got {said}; "
                "give the YAML file of this model"
            )


def _params(params: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """Return the ``params`` of a section, or the whole model's where the section is ''."""
    found = ((params.get(section) or {}).get("params") or {}) if section else params
    if not isinstance(found, dict):
        raise CheckpointError(f"{section}.params must be a mapping, got {found!r}")
    return found


def _autoencoder(params: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _params(params, "first_stage_config").get("ddconfig") or {}
    if not isinstance(found, dict):
        raise CheckpointError(f"first_stage_config.ddconfig must be a mapping, got {found!r}")
    return found


def _widths(section: Mapping[str, Any], name: str, base: int) -> tuple[int, ...] | None:
    return tuple(round(base * m) for m in section[name]) if name in section else None


def _same(value: Any) -> Any:
    """Return the common value of a list with one for each level; return other values unchanged."""
    return value[0] if isinstance(value, list) and len(set(value)) == 1 else value


def _rising(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(sorted(values))


def _count(section: Mapping[str, Any], name: str) -> int | None:
    """Return a positive integer, or None where it is missing, null or -1 (LDM's "not set")."""
    value = section.get(name)
    if value is None or value == -1:
        return None
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{name} must be a positive integer in the YAML file, got {value!r}")
    return value


def _number(section: Mapping[str, Any], name: str, default: float) -> float:
    value = section.get(name, default)
    if type(value) not in (int, float) or not 0.0 < value < math.inf:
        raise CheckpointError(f"{name} must be a positive number in the YAML file, got {value!r}")
    return float(value)
