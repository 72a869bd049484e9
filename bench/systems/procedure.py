"""The released DoSSR procedure with any sampler: one restorer, one network, one decoder.

Tables 5 and 6 of the paper change the sampler or the diffusion process and nothing else. Their rows
therefore also keep the passes whose results the released script discards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...export.checkpoint.config import ModelConfig
from ...export.networks.text import DEFAULT_PROMPT, tokenize
from ...runtime.tensors import SCALE
from .gan import PARAMETERS as RRDBNET_PARAMETERS
from .gan import restorer
from .networks import sd
from .post import wavelet
from .system import Call, Component, Network, Noise, Published, System

Denoise = Callable[[Tensor, float], Tensor]
"""Returns the output of ControlNet and UNet for a state and a network time."""

Sample = Callable[[Denoise, Tensor, Noise], Tensor]
"""The network, x_lr and the noise -> the sampled latent."""

_STEP = 536.688
"""1e9 multiply-accumulates of ControlNet and UNet, at full width and a latent of 64 x 64."""

_ENCODER = 558.329
_AROUND = 3271.3
"""The same of all other passes, one of the encoder of x_lr included."""


@dataclass(frozen=True)
class Sampler:
    """A sampler in latent space."""

    calls: int
    """Network calls (NFE)."""

    sample: Sample

    reads_x_lr: bool = True
    """Whether x_lr, a sample of the restored image's posterior, enters; otherwise it lends its shape only."""


def networks(config: ModelConfig, sampler: Sampler, size: int) -> tuple[Network, ...]:
    """Return the networks that the procedure runs."""
    side = size * SCALE // config.vae.factor
    encoder = (sd.vae_encoder("encoder", config, size * SCALE, calls=1),)
    return (
        restorer(config.restorer, size),
        sd.text_encoder(config, calls=2),
        sd.vae_encoder("condition", config, size * SCALE, calls=2),
        *(encoder if sampler.reads_x_lr else ()),
        sd.control(config, side, calls=sampler.calls),
        sd.unet(config, side, calls=sampler.calls),
        sd.vae_decoder(config, side),
    )


def sampled_system(
    name: str, title: str, sampler: Sampler, size: int, reduced: bool, note: str = ""
) -> System:
    """Return a row of Table 5 or 6; LR sides are multiples of 16."""
    config = sd.widths(reduced)
    found = networks(config, sampler, size)
    return System(
        name=name,
        title=title,
        networks=found,
        upscale=partial(upscale, config, sampler),
        components=(
            *sd.components(config),
            Component("RRDBNet", found[0].build, RRDBNET_PARAMETERS),
        ),
        published=Published(None, None, None),
        gmac=_AROUND - (0.0 if sampler.reads_x_lr else _ENCODER) + sampler.calls * _STEP,
        note=note,
    )


def upscale(config: ModelConfig, sampler: Sampler, call: Call, lr: Tensor, noise: Noise) -> Tensor:
    """Restore, encode, sample and decode; the posterior's noise is drawn before the sampler's."""
    (restored,) = call("restorer", lr=lr)
    restored = restored.clamp(0.0, 1.0)
    image = 2.0 * restored - 1.0
    hint, context = _conditions(config, call, image)
    x_lr = hint
    if sampler.reads_x_lr:
        mean, std = call("encoder", image=image)
        x_lr = (mean + std * noise.normal(*mean.shape)) * config.latent_scale

    def denoise(x: Tensor, time: float) -> Tensor:
        at = torch.full((1,), float(time), device=x.device)
        controls = call("control", x=x, hint=hint, time=at, context=context)
        (out,) = call("unet", x=x, time=at, context=context, **sd.named(controls))
        return out

    x = sampler.sample(denoise, x_lr, noise)
    (decoded,) = call("decoder", latent=x / config.latent_scale)
    return wavelet((decoded + 1.0) / 2.0, restored).clamp(0.0, 1.0)


def _conditions(config: ModelConfig, call: Call, image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hint and the context of the ControlNet."""
    hints: list[Tensor] = []
    contexts: list[Tensor] = []
    for prompt in (DEFAULT_PROMPT, ""):  # the second pair serves guidance, which is off
        mean, _ = call("condition", image=image)
        hints.append(mean * config.latent_scale)
        tokens = torch.tensor([tokenize(prompt, config.text.positions)], device=image.device)
        contexts += call("text", tokens=tokens)
    return hints[0], contexts[0]
