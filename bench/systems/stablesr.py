"""StableSR as released: 200 DDPM steps from pure noise, conditioned on the encoded LR image."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...export.networks.text import tokenize
from ...solvers import NoiseLevels
from .networks import cfw, sd
from .networks import stablesr as networks
from .post import adain
from .samplers import SpacedDDPM, spaced_times
from .system import Call, Component, Noise, Published, System

STEPS = 200

# Millions of parameters.
_UNET = 918.930884
_STRUCT = 52.494080


def stablesr(size: int = 128, reduced: bool = False) -> System:
    """Return StableSR-200 (Wang et al. 2023), sr_val_ddpm_text_T_vqganfin_old.py with AdaIN.

    The script runs under float16 autocast.
    """
    config = sd.widths(reduced)
    maps = networks.REDUCED if reduced else networks.StructConfig()
    side = size * 4 // sd.VAE_FACTOR
    struct = networks.struct(config, maps, side, calls=STEPS)
    unet = networks.unet(config, maps, side, calls=STEPS)
    return System(
        name="stablesr-200",
        title="StableSR-200",
        networks=(
            sd.text_encoder(config, calls=1),
            cfw.encoder(config, size * 4),
            struct,
            unet,
            cfw.decoder(config, size * 4, cfw.REDUCED_GROWTH if reduced else cfw.GROWTH),
        ),
        upscale=_upscale,
        components=(
            Component("UNet", unet.build, _UNET),
            Component("time-aware encoder", struct.build, _STRUCT),
            sd.vae_component(config),
            sd.text_component(config),
        ),
        published=Published(parameters=1409.1, latency=18.90, maniqa=0.4838),
        gmac=99610.0,
        note="the printed parameters include the plain VAE, not the VAE with CFW (128.0 M) that runs",
    )


def _upscale(call: Call, lr: Tensor, noise: Noise) -> Tensor:
    enlarged = F.interpolate(lr, scale_factor=4.0, mode="bilinear")
    mean, std, *features = call("encoder", image=2.0 * enlarged - 1.0)
    x_lr = (mean + std * noise.normal(*mean.shape)) * sd.LATENT_SCALE
    (context,) = call("text", tokens=torch.tensor([tokenize("", sd.TOKENS)], device=lr.device))
    sampler = SpacedDDPM(spaced_times(STEPS), NoiseLevels().alpha_bar())
    x = noise.normal(*x_lr.shape)
    for index in reversed(range(STEPS)):
        time = torch.full((1,), float(sampler.times[index]), device=lr.device)
        maps = dict(zip(networks.MAPS, call("struct", x_lr=x_lr, time=time), strict=True))
        (eps,) = call("unet", x=x, time=time, context=context, **maps)
        x = sampler.step(index, x, eps, noise.normal(*x.shape))
    seen = dict(zip(cfw.FEATURES, features, strict=True))
    (decoded,) = call("decoder", latent=x / sd.LATENT_SCALE, **seen)
    return adain((decoded + 1.0) / 2.0, enlarged).clamp(0.0, 1.0)
