"""The VAE as separate stages; value ranges and the latent scale are folded in."""

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor, nn

from ..checkpoint.config import CONDITION, VAE, ModelConfig


class Encoder(nn.Module):
    """Map (batch, 3, h, w) in [0, 1] to scaled mean and std, each (batch, c, h / f, w / f)."""

    def __init__(self, vae: AutoencoderKL, scale: float) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.scale = vae.encoder, vae.quant_conv, scale

    def forward(self, restored: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.quant_conv(self.encoder(2.0 * restored - 1.0)).chunk(2, dim=1)
        std = torch.exp(0.5 * torch.clamp(log_variance, -30.0, 20.0))
        return mean * self.scale, std * self.scale


class Condition(nn.Module):
    """Map an image to the scaled mode of its posterior, the ControlNet's hint."""

    def __init__(self, vae: AutoencoderKL, scale: float) -> None:
        super().__init__()
        self.encode = Encoder(vae, scale)

    def forward(self, restored: Tensor) -> Tensor:
        mean: Tensor = self.encode(restored)[0]
        return mean


class Decoder(nn.Module):
    """Map scaled latents (batch, c, h, w) to images (batch, 3, f h, f w), nominally in [0, 1]."""

    def __init__(self, vae: AutoencoderKL, scale: float) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv, self.scale = vae.decoder, vae.post_quant_conv, scale

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.decoder(self.post_quant_conv(x * (1.0 / self.scale)))
        return (image + 1.0) * 0.5


def autoencoder(config: ModelConfig) -> AutoencoderKL:
    """Return the whole VAE with random weights."""
    levels = len(config.vae.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.vae.channels,
        layers_per_block=config.vae.blocks,
        latent_channels=config.vae.latent_channels,
        mid_block_add_attention=config.vae.attention,
        norm_num_groups=config.vae.groups,
        scaling_factor=config.latent_scale,
    )


def vae_state(tensors: dict[str, Tensor], vae: AutoencoderKL) -> dict[str, Tensor]:
    """Rename checkpoint tensors of the VAE, or of cond_encoder, to diffusers' names."""
    named = {VAE + name.removeprefix(CONDITION).removeprefix(VAE): t for name, t in tensors.items()}
    state: dict[str, Tensor] = convert_ldm_vae_checkpoint(named, vae.config)
    return state
