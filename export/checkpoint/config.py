"""The configuration of a DoSSR model: sizes of its networks, noise schedule, tensor prefixes."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ...runtime.tensors import LATENT_MULTIPLE, SCALE
from ...solvers import NoiseLevels
from ..errors import CheckpointError

Shape = tuple[int, ...]

UNET = "model.diffusion_model."
CONTROL = "control_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.model."
CONDITION = "cond_encoder."
RESTORER = "preprocess_model."

FAMILIES = {768: "Stable Diffusion 1.5", 2048: "Stable Diffusion XL"}
"""Models that are mistaken for Stable Diffusion 2, by the width of the UNet's context."""

RELEASED = "dossr"
"""What the released denoiser was trained for; official YAML files state no objective."""

NORM_GROUPS = 32  # of the released model; no tensor's shape depends on it


@dataclass(frozen=True)
class UNetConfig:
    """The UNet (LDM's UNetModel); the ControlNet has the sizes of its encoder half."""

    latent_channels: int
    channels: tuple[int, ...]
    """Width of each level, finest first."""

    blocks: int
    """Residual blocks per level of the encoder; the decoder has one more."""

    attention: tuple[bool, ...]
    """Whether each level has transformers; the middle block always has one."""

    depth: int
    """Transformer blocks in each transformer."""

    context: int
    """Width of the text embedding."""

    linear: bool
    """Whether transformers project with linear layers (SD 2) instead of 1x1 convolutions (SD 1)."""

    heads: tuple[int, ...]
    """Attention heads of each level; the middle block has as many as the last level."""

    groups: int = NORM_GROUPS
    """Number of groups of every GroupNorm."""

    @property
    def factor(self) -> int:
        """Return the number that latent sides must be a multiple of."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder (LDM's AutoencoderKL); cond_encoder has the sizes of its encoder half."""

    latent_channels: int
    channels: tuple[int, ...]
    blocks: int
    attention: bool = True
    """Whether the middle blocks of encoder and decoder have attention, as in the released model."""

    groups: int = NORM_GROUPS
    """Number of groups of every GroupNorm."""

    @property
    def factor(self) -> int:
        """Return the ratio of an image's side to its latent's side."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class TextConfig:
    """OpenCLIP's text tower; its last block is not run."""

    width: int
    layers: int
    heads: int
    vocabulary: int = 49408
    positions: int = 77


@dataclass(frozen=True)
class RestorerConfig:
    """The restorer, an RRDBNet."""

    features: int
    blocks: int
    growth: int


@dataclass(frozen=True)
class ModelConfig:
    """What is needed to build all networks, apart from their weights.

    Raise CheckpointError where its parts do not fit each other.
    """

    unet: UNetConfig
    vae: VaeConfig
    text: TextConfig
    restorer: RestorerConfig
    latent_scale: float = 0.18215
    levels: NoiseLevels = field(default_factory=NoiseLevels)

    def __post_init__(self) -> None:
        if self.unet.latent_channels != self.vae.latent_channels:
            raise CheckpointError(
                "VAE and UNet must have the same number of latent channels, "
                f"got {self.vae.latent_channels} and {self.unet.latent_channels}"
            )
        if self.text.width != self.unet.context:
            family = FAMILIES.get(self.unet.context)
            raise CheckpointError(
                f"the text tower must be as wide as the UNet's context, {self.unet.context}"
                f"{f' ({family})' if family else ''}, got {self.text.width}"
            )
        for name, network in (("UNet", self.unet), ("VAE", self.vae)):
            if any(width % network.groups for width in network.channels):
                raise CheckpointError(
                    f"the {name}'s widths must be multiples of its {network.groups} norm groups, "
                    f"got {network.channels}; set norm_num_groups in the YAML file"
                )
        if self.text.width % self.text.heads:
            raise CheckpointError(
                f"the text tower's width must be a multiple of its {self.text.heads} heads, "
                f"got {self.text.width}; set cond_stage_config.params.heads in the YAML file"
            )

    @property
    def size_multiple(self) -> int:
        """Return the number that LR sides are padded to a multiple of.

        It is 16 for a VAE that shrinks by 8, and 8 for one that shrinks by 4.
        """
        latent = math.lcm(self.unet.factor, LATENT_MULTIPLE)
        return max(1, latent * self.vae.factor // SCALE)

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values, for the manifest."""
        return asdict(self)


OFFICIAL = ModelConfig(
    unet=UNetConfig(
        latent_channels=4,
        channels=(320, 640, 1280, 1280),
        blocks=2,
        attention=(True, True, True, False),
        depth=1,
        context=1024,
        linear=True,
        heads=(5, 10, 20, 20),
    ),
    vae=VaeConfig(latent_channels=4, channels=(128, 256, 512, 512), blocks=2),
    text=TextConfig(width=1024, layers=24, heads=16),
    restorer=RestorerConfig(features=64, blocks=23, growth=32),
)
"""The released model: 1717.6 million parameters."""
