"""DoSSR as released, including the passes whose results the script discards."""

from functools import partial

import torch
from torch import Tensor, nn

from ...export.checkpoint.config import ModelConfig
from ...export.networks.denoiser import fold_prompt, new_denoiser
from ...export.networks.text import DEFAULT_PROMPT, tokenize
from ...runtime.tensors import SCALE
from ...solvers import dos_sde_coefficients, predict_x0, released_schedule, step
from .gan import PARAMETERS as RRDBNET_PARAMETERS
from .gan import restorer
from .networks import sd
from .post import wavelet
from .system import Call, Component, Figures, Input, Network, Noise, Published, System

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
    config = sd.widths(reduced)
    found = networks(config, steps, size)
    return System(
        name=f"dossr-{steps}",
        title=f"DoSSR-{steps}",
        networks=found,
        upscale=partial(upscale, config, steps),
        components=(
            *sd.components(config),
            Component("RRDBNet", found[0].build, RRDBNET_PARAMETERS),
        ),
        published=_PUBLISHED.get(steps, Published(None, None, None)),
        gmac=_GMAC[steps],
        note="the paper's 1716.6 M exclude text_projection, which is loaded and never used",
    )


dossr_1, dossr_3, dossr_5, dossr_7 = (partial(dossr, steps) for steps in _GMAC)


def networks(config: ModelConfig, steps: int, size: int) -> tuple[Network, ...]:
    """Return the networks that the released script runs."""
    side = size * SCALE // config.vae.factor
    return (
        restorer(config.restorer, size),
        sd.text_encoder(config, calls=2),
        sd.vae_encoder("condition", config, size * SCALE, calls=2),
        sd.vae_encoder("encoder", config, size * SCALE, calls=1),
        sd.control(config, side, calls=steps),
        sd.unet(config, side, calls=steps),
        sd.vae_decoder(config, side),
    )


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


def upscale(config: ModelConfig, steps: int, call: Call, lr: Tensor, noise: Noise) -> Tensor:
    """Run the released procedure; noise is drawn in the order posterior, start, one per step."""
    (restored,) = call("restorer", lr=lr)
    restored = restored.clamp(0.0, 1.0)
    image = 2.0 * restored - 1.0
    hints: list[Tensor] = []
    contexts: list[Tensor] = []
    for prompt in (DEFAULT_PROMPT, ""):  # the second pair serves guidance, which is off
        mean, _ = call("condition", image=image)
        hints.append(mean * config.latent_scale)
        tokens = torch.tensor([tokenize(prompt, config.text.positions)], device=lr.device)
        contexts += call("text", tokens=tokens)
    hint, context = hints[0], contexts[0]
    mean, std = call("encoder", image=image)
    x_lr = (mean + std * noise.normal(*mean.shape)) * config.latent_scale
    schedule = released_schedule(steps, config.levels)
    shift, spread = schedule.start
    x = shift * x_lr + spread * noise.normal(*mean.shape)
    history: list[Tensor] = []
    for row in dos_sde_coefficients(schedule, ORDER):
        time = torch.full((1,), float(row.time), device=lr.device)
        controls = call("control", x=x, hint=hint, time=time, context=context)
        (eps,) = call("unet", x=x, time=time, context=context, **sd.named(controls))
        history = [predict_x0(row, x, eps), *history[: ORDER - 1]]
        x = step(row, x, x_lr, history, noise.normal(*x.shape))
    (decoded,) = call("decoder", latent=x / config.latent_scale)
    return wavelet((decoded + 1.0) / 2.0, restored).clamp(0.0, 1.0)
