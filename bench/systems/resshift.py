"""ResShift: diffusion from the low-resolution latent to the high-resolution latent in 15 steps.

The state at time t is x0 + eta[t] * (x_lr - x0) + kappa * sqrt(eta[t]) * noise, where x_lr is the latent
of the enlarged image ("ResShift", Yue et al. 2023). The initial state uses eta = 1.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...export.processes.residual import KAPPA, LAST_ROOT, sqrt_eta
from .networks.swin_unet import SwinUnet, SwinUnetConfig
from .networks.vq import VQ_FACTOR, VqConfig, VqDecoder, VqEncoder, vq_model
from .system import Call, Component, Figures, Input, Network, Noise, Published, System

STEPS = 15

_UNET = SwinUnetConfig(3, channels=(160, 320, 320, 640), blocks=2, swin=192, heads=6)
_VQ = VqConfig(3, channels=(128, 256, 512), blocks=2, codes=8192)

# With one latent channel, 4096 codes are closer together than the tolerance of 1e-3: if two backends
# choose different neighbours, the image hardly changes. With few codes or three channels, one pixel
# that falls to another code would change it by more.
_REDUCED_UNET = SwinUnetConfig(1, channels=(32, 32, 64, 64), blocks=1, swin=32, heads=2)
_REDUCED_VQ = VqConfig(1, channels=(32, 32, 64), blocks=1, codes=4096)


@dataclass(frozen=True)
class Step:
    """One step: x0 = unet(x / scale), then x_next = x * x + x0 * x0 + noise * z."""

    time: int
    scale: float
    x: float
    x0: float
    noise: float


def posterior_steps(steps: int = STEPS) -> tuple[Step, ...]:
    """Return the coefficients of the posterior of each state (Section 3.1), noisiest first.

    They do not depend on x_lr. The last step returns x0 and adds no noise.
    """
    after = sqrt_eta(steps) ** 2
    before = np.concatenate([[0.0], after[:-1]])
    return tuple(
        Step(
            time=t,
            scale=math.sqrt(KAPPA**2 * after[t] + 1.0),
            x=float(before[t] / after[t]),
            x0=float((after[t] - before[t]) / after[t]),
            noise=KAPPA * math.sqrt(before[t] / after[t] * (after[t] - before[t])),
        )
        for t in reversed(range(steps))
    )


def resshift(size: int = 128, reduced: bool = False) -> System:
    """Return ResShift-15 (Yue et al. 2023), inference_resshift.py --task realsrx4 --scale 4."""
    unet, vq = (_REDUCED_UNET, _REDUCED_VQ) if reduced else (_UNET, _VQ)
    latent = (1, unet.latent_channels, size, size)
    networks = (
        Network(
            "encoder",
            lambda: VqEncoder(vq_model(vq)),
            (Input("image", (1, 3, VQ_FACTOR * size, VQ_FACTOR * size)),),
            ("latent",),
            1,
            Figures(22.337423, 896.633),
        ),
        Network(
            "unet",
            lambda: SwinUnet(unet, size),
            (Input("x", latent), Input("lq", (1, 3, size, size)), Input("time", (1,))),
            ("x0",),
            STEPS,
            Figures(118.593583, 202.613),
        ),
        Network(
            "decoder",
            lambda: VqDecoder(vq_model(vq)),
            (Input("latent", latent),),
            ("image",),
            1,
            Figures(32.985359, 1547.724),
        ),
    )
    return System(
        name="resshift-15",
        title="ResShift-15",
        networks=networks,
        upscale=_upscale,
        components=(
            Component("Swin-UNet", networks[1].build, 118.593583),
            Component("VQ-f4", lambda: vq_model(vq), 55.322782),
        ),
        published=Published(parameters=173.9, latency=1.12, maniqa=0.4713),
        gmac=5484.0,
        note="the official code also rebuilds 270 attention masks per image on the host",
    )


def _upscale(call: Call, lr: Tensor, noise: Noise) -> Tensor:
    lq = 2.0 * lr - 1.0
    (x_lr,) = call("encoder", image=F.interpolate(lq, scale_factor=4.0, mode="bicubic"))
    x = x_lr + KAPPA * LAST_ROOT * noise.normal(*x_lr.shape)
    for step in posterior_steps():
        time = torch.full((1,), float(step.time), device=lr.device)
        (x0,) = call("unet", x=x / step.scale, lq=lq, time=time)
        x = step.x * x + step.x0 * x0 + step.noise * noise.normal(*x.shape)
    (decoded,) = call("decoder", latent=x)
    return ((decoded + 1.0) / 2.0).clamp(0.0, 1.0)
