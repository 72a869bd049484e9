"""Networks of Stable Diffusion 2.1 in four of the systems: UNet, ControlNet, VAE, text tower."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from ....export.checkpoint.config import (
    OFFICIAL,
    ModelConfig,
    RestorerConfig,
    TextConfig,
    UNetConfig,
    VaeConfig,
)
from ....export.networks.autoencoder import autoencoder
from ....export.networks.denoiser import new_control, new_unet
from ....export.networks.text import text_tower
from ..system import Component, Figures, Input, Network

LATENT_SCALE = 0.18215
VAE_FACTOR = 8
TOKENS = 77

# Millions of parameters.
_UNET = 865.910724
_CONTROL = 363.153280
_VAE = 83.653863
_ENCODER = 34.163664
TEXT_RUN = 340.387840  # the 23 blocks that inference uses
_TEXT_HELD = 354.032641  # with the unused last block, text_projection and logit_scale


REDUCED = ModelConfig(
    unet=UNetConfig(
        latent_channels=4,
        channels=(32, 64, 64, 64),
        blocks=1,
        attention=OFFICIAL.unet.attention,
        depth=1,
        context=32,
        linear=True,
        heads=(1, 2, 2, 2),
    ),
    vae=VaeConfig(latent_channels=4, channels=(32, 32, 32, 32), blocks=1),
    text=TextConfig(width=32, layers=3, heads=2),
    restorer=RestorerConfig(features=16, blocks=1, growth=8),
)
"""The architecture of OFFICIAL, narrow enough for tests."""


def widths(reduced: bool) -> ModelConfig:
    """Return the configuration of the networks."""
    return REDUCED if reduced else OFFICIAL


class Unet(nn.Module):
    """x (n, 4, h, w), time (1,), context, twelve and one control tensors -> eps.

    The context is the text (n, 77, width), or another input of the UNet's transformers.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor | tuple[Tensor, Tensor], *controls: Tensor
    ) -> Tensor:
        eps: Tensor = self.unet(
            x,
            time,
            context,
            down_block_additional_residuals=controls[:-1],
            mid_block_additional_residual=controls[-1],
            return_dict=False,
        )[0]
        return eps


class Control(nn.Module):
    """x, hint (1, 4, h, w), time (1,), context (1, 77, width) -> the control tensors, middle last."""

    def __init__(self, control: ControlNetModel) -> None:
        super().__init__()
        self.control = control

    def forward(self, x: Tensor, hint: Tensor, time: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        down, middle = self.control(
            torch.cat([x, hint], 1), time, context, controlnet_cond=x, return_dict=False
        )
        return (*down, middle)


class VaeEncoder(nn.Module):
    """Images (n, 3, h, w) in [-1, 1] -> mean and std (n, 4, h/8, w/8) of the posterior, unscaled."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        return mean, torch.exp(0.5 * torch.clamp(log_variance, -30.0, 20.0))


class VaeDecoder(nn.Module):
    """Unscaled latents (n, 4, h, w) -> images (n, 3, 8h, 8w), nominally in [-1, 1]."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.decoder(self.post_quant_conv(latent))
        return image


class TextEncoder(nn.Module):
    """Token ids (1, 77) int64 -> context (1, 77, width): OpenCLIP's penultimate output."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        context: Tensor = self.tower(input_ids=tokens).last_hidden_state
        return context


def control_names(config: ModelConfig) -> tuple[str, ...]:
    """Return the names of the control tensors, in order; the last belongs to the UNet's middle."""
    levels = len(config.unet.channels)
    return tuple(f"control_{i}" for i in range(levels * (config.unet.blocks + 1) + 1))


def named(controls: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name the control tensors as inputs of the UNet."""
    return {f"control_{i}": tensor for i, tensor in enumerate(controls)}


def control_shapes(config: ModelConfig, side: int) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the control tensors for a square latent: (1, channels, height, width)."""
    shapes, channels = [(1, config.unet.channels[0], side, side)], config.unet.channels
    for level, width in enumerate(channels):
        at = side >> level
        shapes += [(1, width, at, at)] * config.unet.blocks
        if level + 1 < len(channels):
            shapes.append((1, width, at // 2, at // 2))
    return (*shapes, shapes[-1])


def latent_input(name: str, config: ModelConfig, side: int) -> Input:
    """Return an input that is a square latent."""
    return Input(name, (1, config.unet.latent_channels, side, side))


def context_input(config: ModelConfig) -> Input:
    """Return the denoiser's text input."""
    return Input("context", (1, TOKENS, config.unet.context))


def unet(config: ModelConfig, side: int, calls: int) -> Network:
    """Return the SD 2.1 UNet with control inputs."""
    controls = zip(control_names(config), control_shapes(config, side), strict=True)
    return Network(
        "unet",
        lambda: Unet(new_unet(config)),
        (
            latent_input("x", config, side),
            Input("time", (1,)),
            context_input(config),
            *(Input(name, shape) for name, shape in controls),
        ),
        ("eps",),
        calls,
        Figures(_UNET, 402.129),
    )


def control(config: ModelConfig, side: int, calls: int) -> Network:
    """Return the ControlNet of DiffBIR v1 and DoSSR; the first convolution takes a latent as hint."""
    return Network(
        "control",
        lambda: Control(new_control(config)),
        (
            latent_input("x", config, side),
            latent_input("hint", config, side),
            Input("time", (1,)),
            context_input(config),
        ),
        control_names(config),
        calls,
        Figures(_CONTROL, 134.559),
    )


def vae_encoder(name: str, config: ModelConfig, side: int, calls: int, batch: int = 1) -> Network:
    """Return VAE encoder and quant convolution, for square images."""
    return Network(
        name,
        lambda: VaeEncoder(autoencoder(config)),
        (Input("image", (batch, 3, side, side)),),
        ("mean", "std"),
        calls,
        Figures(_ENCODER, 558.329 * batch),
    )


def vae_decoder(config: ModelConfig, side: int, calls: int = 1) -> Network:
    """Return post-quant convolution and VAE decoder, for square latents."""
    return Network(
        "decoder",
        lambda: VaeDecoder(autoencoder(config)),
        (latent_input("latent", config, side),),
        ("image",),
        calls,
        Figures(49.490199, 1257.259),
    )


def text_encoder(config: ModelConfig, calls: int) -> Network:
    """Return the 23 blocks of OpenCLIP's ViT-H-14 text tower that inference uses, with the final norm."""
    return Network(
        "text",
        lambda: TextEncoder(text_tower(config.text)),
        (Input("tokens", (1, TOKENS), tokens=config.text.vocabulary),),
        ("context",),
        calls,
        Figures(TEXT_RUN, 22.564),
    )


def components(config: ModelConfig) -> tuple[Component, ...]:
    """Return the components that DiffBIR v1 and DoSSR share: all but the restorer."""
    return (
        Component("UNet", lambda: new_unet(config), _UNET),
        Component("ControlNet", lambda: new_control(config), _CONTROL),
        vae_component(config),
        Component("cond_encoder", lambda: VaeEncoder(autoencoder(config)), _ENCODER),
        text_component(config),
    )


def vae_component(config: ModelConfig) -> Component:
    """Return the whole VAE."""
    return Component("VAE", lambda: autoencoder(config), _VAE)


def text_component(config: ModelConfig) -> Component:
    """Return the text tower of a checkpoint, with the unused block and tensors."""
    return Component("text tower", lambda: HeldText(config.text), _TEXT_HELD)


class HeldText(nn.Module):
    """The text tower with its unused tensors; it is only counted."""

    def __init__(self, text: TextConfig) -> None:
        super().__init__()
        self.tower = text_tower(text, layers=text.layers)
        self.text_projection = nn.Parameter(torch.zeros(text.width, text.width))
        self.logit_scale = nn.Parameter(torch.zeros(()))
