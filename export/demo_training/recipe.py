"""The demo model's configuration and training settings."""

from dataclasses import dataclass

from ..checkpoint.config import (
    RELEASED,
    ModelConfig,
    RestorerConfig,
    TextConfig,
    UNetConfig,
    VaeConfig,
)

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
"""The latent scale is measured later, on the trained autoencoder."""

IMAGE_SIZE = 256
"""Side of a training image, in pixels."""

VIEWS = 2
"""Pieces of every image that are encoded for the training of the denoiser."""

DEVIATION = 2.5
"""Standard deviation of the latents, relative to the noise's.

With a larger one, noise hides less of the sampler's current result.
"""

ZOOM = 2.0
"""Largest enlargement of training images, which makes them as soft as photographs."""

CONTRAST = 0.3
"""Smallest factor of their contrast."""

TEXTURED, TEXTURE = 0.35, (0.7, 8.0)
"""Fraction of training pieces with a texture, and the range of its standard deviation, of 255.

More or stronger texture makes the sampler add grain to skies and faces.
"""

CLEAN = 0.3
"""Fraction of training images that are reduced and nothing else."""

EXACT = 0.6
"""Fraction of the pieces of plain images that keep their edges and contrasts, as drawings have them."""


@dataclass(frozen=True)
class Training:
    """Settings of one training: AdamW, a cosine from ``rate`` to 1 % of it, a moving average."""

    steps: int
    batch: int
    crop: int
    """Side of a crop of the sharp image, or of the latent for the denoiser."""

    rate: float
    average: float = 0.999
    """Decay of the moving average of the weights; the average is the result."""


TRAININGS = {
    "restorer": Training(steps=4500, batch=8, crop=64, rate=1e-3),
    "autoencoder": Training(steps=4000, batch=8, crop=32, rate=1e-3),
    "denoiser": Training(steps=10000, batch=8, crop=64, rate=1e-3),
}
"""Of the networks that are trained, in this order."""

FURTHER = Training(steps=3000, batch=2, crop=IMAGE_SIZE, rate=3e-4, average=0.998)
"""Of the autoencoder of a finished bundle, on whole images, after ``steady_norms``."""

STEADIED = 32
"""Images that ``steady_norms`` sees."""

REDUCED = (1, 2, 4)
"""What ``crop`` is divided by in the steps of ``FURTHER``, by chance; borders weigh more in small images."""

KEEP_PLAIN, KEEP = 0.01, 0.05
"""Weights of a latent's distance from the one before, of plain images and others; the denoiser stays as it is."""

KL_WEIGHT = 1e-7
COARSE, COARSE_WEIGHT = 16, 3.0
"""Side in pixels of the means that must be kept, and their weight in the loss."""

OBJECTIVES = {
    RELEASED: (1.1, -0.75),
    "ddpm": (0.38, -0.2),
    "colddiff": (0.53, 0.48),
    "resshift": (0.15, 0.89),
    "flow": (1.44, -1.44),
}
"""What the denoiser can be trained for, each with its gains of state and hint at the start.

The gains of the others are those that predict their target best on the training latents, by least
squares over all levels.
"""

LOG_VARIANCE = -8.0
"""Initial log-variance of the posterior: nearly no noise, so that images are learnt first."""


def named(name: str, objective: str) -> str:
    """Return a network's or a checkpoint's name for an objective; those of DoSSR are plain."""
    return name if objective == RELEASED else f"{name}-{objective}"
