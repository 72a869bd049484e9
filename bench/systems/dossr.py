"""DoSSR as released, including the passes whose results the script discards."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ...export.checkpoint.config import ModelConfig
from ...export.networks.denoiser import fold_prompt, new_denoiser
from ...runtime.tensors import SCALE
from ...solvers import (
    NoiseLevels,
    Schedule,
    dos_sde_coefficients,
    predict_x0,
    released_schedule,
    step,
)
from . import procedure
from .gan import restorer
from .networks import sd
from .procedure import Denoise, Sampler, sampled_system
from .system import Call, Figures, Input, Network, Noise, Published, System

ORDER = 3
_GMAC = {1: 3808.0, 3: 4881.0, 5: 5955.0, 7: 7028.0}
_PUBLISHED = {5: Published(parameters=1716.6, latency=1.03, maniqa=0.5794)}


STAGE_OF = {
    "restorer": "restorer",
    "text": "text",
    "condition": "encoder",
    "encoder": "encoder",
    "control": "denoiser",
    "unet": "denoiser",
    "denoiser": "denoiser",
    "decoder": "decoder",
}
"""The stage of each network: of the released procedure, and of a bundle where it is one of these."""


def dossr(steps: int, size: int = 128, reduced: bool = False) -> System:
    """Return DoSSR-``steps`` (Cui et al. 2024), scripts/inference.py; LR sides are multiples of 16."""
    sampler = dos_sde(steps, ORDER, sd.widths(reduced).levels)
    system = sampled_system(f"dossr-{steps}", f"DoSSR-{steps}", sampler, size, reduced)
    return replace(
        system,
        published=_PUBLISHED.get(steps, system.published),
        gmac=_GMAC[steps],
        note="the paper's 1716.6 M exclude text_projection, which is loaded and never used",
    )


dossr_1, dossr_3, dossr_5, dossr_7 = (partial(dossr, steps) for steps in _GMAC)


def networks(config: ModelConfig, steps: int, size: int) -> tuple[Network, ...]:
    """Return the networks that the released script runs."""
    return procedure.networks(config, dos_sde(steps, ORDER, config.levels), size)


def bundled_networks(
    config: ModelConfig, steps: int, size: int, has_condition: bool
) -> tuple[Network, ...]:
    """Return the networks that a bundle runs: each encoder once, no text tower.

    ``has_condition``: the condition encoder is a stage of its own.
    """
    side = size * SCALE // config.vae.factor
    inputs = (
        sd.latent_input("x", config, side),
        sd.latent_input("hint", config, side),
        Input("time", (1,)),
    )
    return (
        restorer(config.restorer, size),
        sd.vae_encoder("encoder", config, size * SCALE, calls=2 if has_condition else 1),
        Network("denoiser", partial(_folded, config), inputs, ("eps",), steps, Figures()),
        sd.vae_decoder(config, side),
    )


def _folded(config: ModelConfig) -> nn.Module:
    """Build ControlNet and UNet with a prompt of zeros folded in."""
    network = new_denoiser(config)
    fold_prompt(network, torch.zeros(1, sd.TOKENS, config.unet.context))
    return network


def dos_sde(steps: int, order: int, levels: NoiseLevels | None = None) -> Sampler:
    """Return the released solver of order 1, 2 or 3; noise is drawn for the start, then for each step."""
    return Sampler(steps, partial(_sample, released_schedule(steps, levels), order))


def upscale(config: ModelConfig, steps: int, call: Call, lr: Tensor, noise: Noise) -> Tensor:
    """Run the released procedure; noise is drawn in the order posterior, start, one per step."""
    return procedure.upscale(config, dos_sde(steps, ORDER, config.levels), call, lr, noise)


def _sample(schedule: Schedule, order: int, denoise: Denoise, x_lr: Tensor, noise: Noise) -> Tensor:
    """Run Algorithm 1, 2 or 3."""
    shift, spread = schedule.start
    x = shift * x_lr + spread * noise.normal(*x_lr.shape)
    history: list[Tensor] = []
    for row in dos_sde_coefficients(schedule, order):
        eps = denoise(x, float(row.time))
        history = [predict_x0(row, x, eps), *history[: order - 1]]
        x = step(row, x, x_lr, history, noise.normal(*x.shape))
    return x
