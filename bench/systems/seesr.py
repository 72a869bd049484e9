"""SeeSR: 50 DDPM steps, guided by tags that describe the image."""

import numpy as np
import torch
from torch import Tensor

from ...solvers import NoiseLevels
from .diffbir import enlarge
from .networks import ram, sd
from .networks import seesr as networks
from .post import adain
from .samplers import TRAIN_STEPS, SpacedDDPM
from .system import Call, Component, Noise, Published, System

STEPS = 50
GUIDANCE = 5.5
START = TRAIN_STEPS - 1
TIMES = np.arange(1, TRAIN_STEPS, TRAIN_STEPS // STEPS)
"""Network times, ascending, as in diffusers' DDPMScheduler with the settings of SD 2."""

_FIRST, _COMMA, _LAST = 49406, 267, 49407  # CLIP's
_CLEAN = (3772, _COMMA, 1400, 268, 9977, _COMMA, 279, 330)  # "clean, high-resolution, 8k"
_TAGS = tuple(token for word in range(1000, 1010) for token in (word, _COMMA))
_POSITIVE = (*_TAGS, _COMMA, *_CLEAN)
_NEGATIVE = (2000, _COMMA, 2001, _COMMA, 2002, _COMMA, 2003, _COMMA, 2004)

_UNET = 1126.760324
_CONTROL = 489.031440


def seesr(size: int = 128, reduced: bool = False) -> System:
    """Return SeeSR (Wu et al. 2024), test_seesr.py; the script uses float16, and float32 for RAM."""
    config, ram_config = sd.widths(reduced), ram.widths(reduced)
    side = size * 4 // sd.VAE_FACTOR
    text = sd.text_encoder(config, calls=2)
    control = networks.control(config, ram_config.image, side, calls=STEPS)
    unet = networks.unet(config, ram_config.image, side, calls=STEPS)
    return System(
        name="seesr-50",
        title="SeeSR-50",
        networks=(
            ram.tower(ram_config, calls=2),
            ram.tag_head(ram_config, calls=1),
            text,
            sd.vae_encoder("encoder", config, size * 4, calls=1, batch=networks.BATCH),
            control,
            unet,
            sd.vae_decoder(config, side),
        ),
        upscale=_upscale,
        components=(
            Component("UNet", unet.build, _UNET),
            Component("ControlNet", control.build, _CONTROL),
            sd.vae_component(config),
            Component("text tower", text.build, sd.TEXT_RUN),
            *ram.components(ram_config),
        ),
        published=Published(parameters=2283.7, latency=7.24, maniqa=0.5588),
        gmac=84437.0,
        note="the networks in the released code have 2252.6 M; no code path has the printed 2283.7 M",
    )


def guided(eps: Tensor) -> Tensor:
    """Apply classifier-free guidance to (2, c, h, w): the first without the prompt, the second with."""
    unconditional, conditional = eps.chunk(2)
    return unconditional + GUIDANCE * (conditional - unconditional)


def _upscale(call: Call, lr: Tensor, noise: Noise) -> Tensor:
    """Run the released procedure, with prompts that do not depend on the tags.

    Synthetic weights give no meaningful tags, so the prompts are fixed token ids: ten arbitrary
    words for the tags, then the script's own ending, and five negative words. The latency does not
    depend on them because every prompt is padded to 77 tokens.
    """
    seen = ram.prepare(lr)
    call("tags", tokens=call("ram", image=seen)[0])
    (tokens,) = call("ram", image=seen)  # the script computes them twice
    (positive,) = call("text", tokens=_prompt(_POSITIVE, lr.device))
    (negative,) = call("text", tokens=_prompt(_NEGATIVE, lr.device))
    context = {"text": torch.cat([negative, positive]), "image": torch.cat([tokens] * 2)}

    enlarged = enlarge(lr)
    hint = torch.cat([enlarged] * 2)
    mean, std = call("encoder", image=2.0 * hint - 1.0)
    x_lr = (mean + std * noise.normal(*mean.shape))[:1] * sd.LATENT_SCALE
    alpha_bar = NoiseLevels().alpha_bar()
    level = float(alpha_bar[START])
    x = level**0.5 * x_lr + (1.0 - level) ** 0.5 * noise.normal(*x_lr.shape)
    sampler = SpacedDDPM(TIMES, alpha_bar)
    for index in reversed(range(STEPS)):
        time = torch.full((1,), float(TIMES[index]), device=lr.device)
        both = torch.cat([x] * 2)
        controls = call("control", x=both, hint=hint, time=time, **context)
        (eps,) = call("unet", x=both, time=time, **context, **sd.named(controls))
        x = sampler.step(index, x, guided(eps), noise.normal(*x.shape))

    (decoded,) = call("decoder", latent=x / sd.LATENT_SCALE)
    return adain(((decoded + 1.0) / 2.0).clamp(0.0, 1.0), enlarged).clamp(0.0, 1.0)


def _prompt(words: tuple[int, ...], device: torch.device) -> Tensor:
    """Return token ids (1, 77) with start and end tokens."""
    ids = [_FIRST, *words, _LAST]
    return torch.tensor([ids + [0] * (sd.TOKENS - len(ids))], device=device)
