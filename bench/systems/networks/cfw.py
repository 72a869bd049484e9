"""StableSR's autoencoder: SD's VAE with encoder features fused into the decoder (CFW)."""

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ....export.checkpoint.config import NORM_GROUPS, ModelConfig
from ....export.networks.autoencoder import autoencoder
from ....export.networks.restorer import RRDB
from ..system import Figures, Input, Network
from . import sd

GROWTH = 32
REDUCED_GROWTH = 8
WEIGHT = 0.5
"""Weight of the encoder's features in the decoder, dec_w in the official script."""

_FUSED = (1, 2)  # levels; 0 has the resolution of the image
FEATURES = tuple(f"feature_{level}" for level in _FUSED)
"""Names of the encoder features that the decoder receives."""


class Encoder(nn.Module):
    """Images (1, 3, h, w) in [-1, 1] -> mean and std of the posterior, unscaled, and two features.

    Feature i is (1, width, h / 2^i, w / 2^i).
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        net, features = self.encoder, []
        x = net.conv_in(image)
        for level, block in enumerate(net.down_blocks):
            for resnet in block.resnets:
                x = resnet(x, None)
            if level in _FUSED:
                features.append(x)
            for down in block.downsamplers or ():
                x = down(x)
        moments = self.quant_conv(net.conv_out(net.conv_act(net.conv_norm_out(net.mid_block(x)))))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, torch.exp(0.5 * torch.clamp(log_variance, -30.0, 20.0)), *features


class Decoder(nn.Module):
    """Unscaled latents (1, 4, h, w) and the encoder's features -> images (1, 3, 8h, 8w)."""

    def __init__(self, vae: AutoencoderKL, channels: tuple[int, ...], growth: int) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv
        self.fusions = nn.ModuleList(Fusion(channels[level], growth) for level in _FUSED)

    def forward(self, latent: Tensor, *features: Tensor) -> Tensor:
        net, coarsest = self.decoder, len(self.decoder.up_blocks) - 1
        fused = dict(zip(_FUSED, zip(self.fusions, features, strict=True), strict=True))
        x = net.mid_block(net.conv_in(self.post_quant_conv(latent)))
        for i, block in enumerate(net.up_blocks):
            for resnet in block.resnets:
                x = resnet(x, None)
            if coarsest - i in fused:
                fusion, feature = fused[coarsest - i]
                x = x + WEIGHT * fusion(feature, x)
            for up in block.upsamplers or ():
                x = up(x)
        image: Tensor = net.conv_out(net.conv_act(net.conv_norm_out(x)))
        return image


class Fusion(nn.Module):
    """Encoder and decoder features, (n, width, h, w) each -> the residual of the decoder features."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.enter = _resnet(2 * width, width)
        self.body = nn.Sequential(RRDB(width, growth), RRDB(width, growth))
        self.leave = _resnet(width, width)

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        x = self.enter(torch.cat([encoded, decoded], dim=1), None)
        out: Tensor = self.leave(self.body(x), None)
        return out


def encoder(config: ModelConfig, side: int) -> Network:
    """Return the encoder with its features, for square images of ``side``."""
    return Network(
        "encoder",
        lambda: Encoder(autoencoder(config)),
        (Input("image", (1, 3, side, side)),),
        ("mean", "std", *FEATURES),
        1,
        Figures(34.163664, 558.329),
    )


def decoder(config: ModelConfig, side: int, growth: int = GROWTH) -> Network:
    """Return the decoder with CFW, for square images of ``side``."""
    channels = config.vae.channels
    return Network(
        "decoder",
        lambda: Decoder(autoencoder(config), channels, growth),
        (
            sd.latent_input("latent", config, side // sd.VAE_FACTOR),
            *(
                Input(name, (1, channels[level], side >> level, side >> level))
                for name, level in zip(FEATURES, _FUSED, strict=True)
            ),
        ),
        ("image",),
        1,
        Figures(93.883927, 2499.914),
    )


def _resnet(inputs: int, outputs: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=inputs, out_channels=outputs, temb_channels=None, groups=NORM_GROUPS
    )
