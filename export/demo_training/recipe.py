"""The demo model: its networks, and how each of them is trained."""

from dataclasses import dataclass

from ..checkpoint.config import ModelConfig, RestorerConfig, TextConfig, UNetConfig, VaeConfig

DEMO = ModelConfig(
    unet=UNetConfig(
        latent_channels=6,
        channels=(32, 48, 80, 112),
        blocks=1,
        attention=(False, False, False, True),
        depth=1,
        context=32,
        linear=True,
        heads=(2, 3, 5, 7),
        groups=8,
    ),
    vae=VaeConfig(latent_channels=6, channels=(32, 48), blocks=1, attention=False, groups=4),
    text=TextConfig(width=32, layers=2, heads=1),
    restorer=RestorerConfig(features=32, blocks=3, growth=16),
)
"""Widths only; the latent scale is measured once the autoencoder is trained."""

IMAGE_SIZE = 256
"""Side of a training image, in pixels."""

VIEWS = 2
"""Pieces of every image that the denoiser is trained on, as latents."""

DEVIATION = 2.5
"""Deviation of the latents, beside noise of deviation 1: the larger, the less the noise hides of what
the sampler has found so far."""

ZOOM = 2.0
"""How far training images are enlarged at most, to be as soft as photographs."""

CONTRAST = 0.3
"""How far their contrast is reduced at most."""

TEXTURED, TEXTURE = 0.35, (0.7, 8.0)
"""Share of training pieces with a texture, and the range of its deviation, of 255. What is textured
more often or more strongly is textured by the sampler too: grain in skies and faces."""


@dataclass(frozen=True)
class Training:
    """How one network is trained: AdamW, a cosine from ``rate`` to 1 % of it, EMA."""

    steps: int
    batch: int
    crop: int
    """Side of a crop: of the sharp image for restorer and autoencoder, of the latent for the denoiser."""

    rate: float
    average: float = 0.999
    """Decay of the moving average of the weights, which is what ships."""


TRAININGS = {
    "restorer": Training(steps=4500, batch=8, crop=64, rate=1e-3),
    "autoencoder": Training(steps=4000, batch=8, crop=32, rate=1e-3),
    "denoiser": Training(steps=10000, batch=8, crop=64, rate=1e-3),
}
KL_WEIGHT = 1e-7
LOG_VARIANCE = -8.0
"""Where the posterior's log-variance starts: nearly without noise, so that images are learnt first."""
