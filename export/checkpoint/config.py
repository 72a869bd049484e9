"""What a DoSSR checkpoint holds, as its tensors' shapes show it."""

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

NORM_GROUPS = 32  # of the released model; they leave no trace in the tensors


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser (LDM's UNetModel); the ControlNet is its encoder half."""

    latent_channels: int
    channels: tuple[int, ...]
    """Width of each level, finest first."""

    blocks: int
    """Residual blocks per level of the encoder; the decoder has one more."""

    attention: tuple[bool, ...]
    """Which levels have transformers; the middle always has one."""

    depth: int
    """Transformer blocks in each transformer."""

    context: int
    """Width of the text embedding."""

    linear: bool
    """Whether transformers project with linear layers (SD 2) or with 1x1 convolutions (SD 1)."""

    heads: tuple[int, ...]
    """Attention heads of each level; the middle has as many as the last."""

    groups: int = NORM_GROUPS
    """Groups of every GroupNorm."""

    @property
    def factor(self) -> int:
        """Latent sides must be multiples of this."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder (LDM's AutoencoderKL); cond_encoder is its encoder half."""

    latent_channels: int
    channels: tuple[int, ...]
    blocks: int
    attention: bool = True
    """Whether the middle of encoder and decoder has attention; the released model's has."""

    groups: int = NORM_GROUPS
    """Groups of every GroupNorm."""

    @property
    def factor(self) -> int:
        """How many times smaller a latent's sides are than the image's."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class TextConfig:
    """The text tower of OpenCLIP; its last block is not run."""

    width: int
    layers: int
    heads: int
    vocabulary: int = 49408
    positions: int = 77


@dataclass(frozen=True)
class RestorerConfig:
    """The RRDBNet in front."""

    features: int
    blocks: int
    growth: int


@dataclass(frozen=True)
class ModelConfig:
    """Everything that building the networks needs besides the tensors."""

    unet: UNetConfig
    vae: VaeConfig
    text: TextConfig
    restorer: RestorerConfig
    latent_scale: float = 0.18215
    levels: NoiseLevels = field(default_factory=NoiseLevels)

    def __post_init__(self) -> None:
        if self.unet.latent_channels != self.vae.latent_channels:
            raise CheckpointError(
                f"the VAE has {self.vae.latent_channels} latent channels and the UNet "
                f"{self.unet.latent_channels}; they must be equal"
            )
        if self.text.width != self.unet.context:
            raise CheckpointError(
                f"the text tower is {self.text.width} wide and the UNet wants {self.unet.context}"
            )
        for name, network in (("UNet", self.unet), ("VAE", self.vae)):
            if any(width % network.groups for width in network.channels):
                raise CheckpointError(
                    f"the {name}'s widths {network.channels} must be multiples of its norms' "
                    f"{network.groups} groups; say how many with norm_num_groups in the YAML file"
                )
        if self.text.width % self.text.heads:
            raise CheckpointError(
                f"a text tower of width {self.text.width} cannot have {self.text.heads} heads; "
                "say how many with cond_stage_config.params.heads in the YAML file"
            )

    @property
    def size_multiple(self) -> int:
        """LR sides must be multiples of this (images are padded to it): 16 where the VAE shrinks
        by 8, 8 where it shrinks by 4."""
        latent = math.lcm(self.unet.factor, LATENT_MULTIPLE)
        return max(1, latent * self.vae.factor // SCALE)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for the manifest."""
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
