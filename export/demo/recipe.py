"""The demo model: its networks, and how each of them is trained."""

from dataclasses import dataclass

from ..config import ModelConfig, RestorerConfig, TextConfig, UNetConfig, VaeConfig

DEMO = ModelConfig(
    unet=UNetConfig(
        latent_channels=8,
        channels=(64, 96, 128),
        blocks=1,
        attention=(False, False, True),
        depth=1,
        context=32,
        linear=True,
        heads=(2, 3, 4),
    ),
    vae=VaeConfig(latent_channels=8, channels=(32, 64, 96), blocks=1, attention=False),
    text=TextConfig(width=32, layers=2, heads=1),
    restorer=RestorerConfig(features=32, blocks=3, growth=16),
)
"""Widths only; the latent scale is measured once the autoencoder is trained."""

PICTURE = 256
"""Side of a training picture, in pixels."""


@dataclass(frozen=True)
class Training:
    """How one network is trained: AdamW, a cosine from ``rate`` to 1 % of it, EMA."""

    steps: int
    batch: int
    crop: int
    """Side of a crop: of the sharp picture for restorer and autoencoder, of the latent for the denoiser."""

    rate: float
    average: float = 0.999
    """Decay of the moving average of the weights, which is what ships."""


TRAININGS = {
    "restorer": Training(steps=6000, batch=8, crop=128, rate=1e-3),
    "autoencoder": Training(steps=5000, batch=8, crop=96, rate=2e-3),
    "denoiser": Training(steps=9000, batch=16, crop=32, rate=1e-3),
}
KL_WEIGHT = 1e-6
LOG_VARIANCE = -6.0
"""Where the posterior's log-variance starts: nearly without noise, so that pictures are learnt first."""
