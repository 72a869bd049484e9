"""DiffBIR v1 as released at commit 7bd5675, including the passes whose results it discards."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...export.networks.text import tokenize
from ...solvers import NoiseLevels
from .networks import sd
from .networks.swinir import SwinIR, SwinIRConfig
from .post import wavelet
from .samplers import SpacedDDPM, spaced_times
from .system import Call, Component, Figures, Input, Network, Noise, Published, System

STEPS = 50
REDUCED = SwinIRConfig(width=24, groups=2, blocks=2, heads=2, features=16)

# Millions of parameters.
_SWINIR = 15.792587


def diffbir(size: int = 128, reduced: bool = False) -> System:
    """Return DiffBIR-50 (Lin et al. 2023), inference.py with its defaults: no prompt, no guidance."""
    config = sd.widths(reduced)
    restorer = swinir(REDUCED if reduced else SwinIRConfig(), size * 4)
    condition = sd.vae_encoder("condition", config, size * 4, calls=2)
    side = size * 4 // sd.VAE_FACTOR
    return System(
        name="diffbir-50",
        title="DiffBIR-50",
        networks=(
            restorer,
            sd.text_encoder(config, calls=2),
            condition,
            sd.control(config, side, calls=STEPS),
            sd.unet(config, side, calls=STEPS),
            sd.vae_decoder(config, side),
        ),
        upscale=_upscale,
        components=(
            *sd.components(config),
            Component("SwinIR", restorer.build, _SWINIR),
        ),
        published=Published(parameters=1716.7, latency=5.85, maniqa=0.4869),
        gmac=29344.0,
        note="version 1; the printed parameters include its SwinIR",
    )


def swinir(config: SwinIRConfig, side: int) -> Network:
    """Return SwinIR for square images in [0, 1] at the size of the result; the output is unclamped."""
    return Network(
        "swinir",
        lambda: SwinIR(config, side),
        (Input("image", (1, 3, side, side)),),
        ("restored",),
        1,
        Figures(_SWINIR, 90.739),
    )


def enlarge(lr: Tensor) -> Tensor:
    """Upscale (1, 3, h, w) in [0, 1] bicubically by 4 with Pillow's kernel, in float32."""
    # for enlargement, antialias only sets the kernel's parameter to -0.5
    large = F.interpolate(lr, scale_factor=4.0, mode="bicubic", antialias=True)
    return large.clamp(0.0, 1.0)


def _upscale(call: Call, lr: Tensor, noise: Noise) -> Tensor:
    (restored,) = call("swinir", image=enlarge(lr))
    hints: list[Tensor] = []
    contexts: list[Tensor] = []
    tokens = torch.tensor([tokenize("", sd.TOKENS)], device=lr.device)
    for _ in range(2):  # the second pair serves guidance, which is off
        mean, _ = call("condition", image=2.0 * restored - 1.0)
        hints.append(mean * sd.LATENT_SCALE)
        contexts += call("text", tokens=tokens)
    hint, context = hints[0], contexts[0]
    sampler = SpacedDDPM(spaced_times(STEPS), NoiseLevels().alpha_bar())
    x = noise.normal(*hint.shape)
    for index in reversed(range(STEPS)):
        time = torch.full((1,), float(sampler.times[index]), device=lr.device)
        controls = call("control", x=x, hint=hint, time=time, context=context)
        (eps,) = call("unet", x=x, time=time, context=context, **sd.named(controls))
        x = sampler.step(index, x, eps, noise.normal(*x.shape))
    (decoded,) = call("decoder", latent=x / sd.LATENT_SCALE)
    return wavelet((decoded + 1.0) / 2.0, restored).clamp(0.0, 1.0)
