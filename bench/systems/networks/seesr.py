"""SeeSR's ControlNet and UNet: SD 2 with an image-token transformer after each text transformer.

Both run on a batch of two (without and with the prompt); figures per call are for the batch.
"""

from typing import Any

import torch
from diffusers import ControlNetModel, Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

from ....export.checkpoint.config import ModelConfig
from ....export.networks.denoiser import new_unet
from ..system import Figures, Input, Network
from . import ram, sd

BATCH = 2


class WithImage(nn.Module):
    """A text transformer, then a transformer of equal width that attends to image tokens.

    Replaces the text transformer. The context from the surrounding blocks is therefore a pair: text
    (n, 77, width) and image tokens (n, 145, width).
    """

    def __init__(self, text: Transformer2DModel, width: int) -> None:
        super().__init__()
        self.text = text
        self.image = Transformer2DModel(
            text.config.num_attention_heads,
            text.config.attention_head_dim,
            in_channels=text.config.in_channels,
            num_layers=text.config.num_layers,
            cross_attention_dim=width,
            norm_num_groups=text.config.norm_num_groups,
            use_linear_projection=text.config.use_linear_projection,
        )

    def forward(
        self, x: Tensor, encoder_hidden_states: tuple[Tensor, Tensor], **rest: Any
    ) -> tuple[Tensor, ...]:
        text, image = encoder_hidden_states
        (x,) = self.text(x, encoder_hidden_states=text, **rest)
        (x,) = self.image(x, encoder_hidden_states=image, **rest)
        return (x,)


class Unet(nn.Module):
    """x (n, 4, h, w), time (1,), text (n, 77, width), image (n, 145, width), controls -> eps."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.inner = sd.Unet(unet)

    def forward(
        self, x: Tensor, time: Tensor, text: Tensor, image: Tensor, *controls: Tensor
    ) -> Tensor:
        eps: Tensor = self.inner(x, time, (text, image), *controls)
        return eps


class Control(nn.Module):
    """Inputs of Unet and hint (n, 3, 8h, 8w) in [0, 1] -> the control tensors, middle last."""

    def __init__(self, control: ControlNetModel) -> None:
        super().__init__()
        self.control = control

    def forward(
        self, x: Tensor, hint: Tensor, time: Tensor, text: Tensor, image: Tensor
    ) -> tuple[Tensor, ...]:
        down, middle = self.control(x, time, (text, image), controlnet_cond=hint, return_dict=False)
        return (*down, middle)


def unet(config: ModelConfig, image: int, side: int, calls: int) -> Network:
    """Return the UNet; ``image`` is the width of an image token, ``side`` that of the latent."""
    controls = zip(sd.control_names(config), sd.control_shapes(config, side), strict=True)
    return Network(
        "unet",
        lambda: Unet(_with_image(new_unet(config), image)),
        (
            _latent_input(config, side),
            Input("time", (1,)),
            *_context_inputs(config, image),
            *(Input(name, (BATCH, *shape[1:])) for name, shape in controls),
        ),
        ("eps",),
        calls,
        Figures(1126.760324, 596.505 * BATCH),
    )


def control(config: ModelConfig, image: int, side: int, calls: int) -> Network:
    """Return the ControlNet; its hint is the enlarged image."""
    return Network(
        "control",
        lambda: Control(_with_image(_new_control(config), image)),
        (
            _latent_input(config, side),
            Input("hint", (BATCH, 3, side * sd.VAE_FACTOR, side * sd.VAE_FACTOR)),
            Input("time", (1,)),
            *_context_inputs(config, image),
        ),
        sd.control_names(config),
        calls,
        Figures(489.031440, 221.016 * BATCH),
    )


def _latent_input(config: ModelConfig, side: int) -> Input:
    return Input("x", (BATCH, config.unet.latent_channels, side, side))


def _context_inputs(config: ModelConfig, image: int) -> tuple[Input, Input]:
    return (
        Input("text", (BATCH, sd.TOKENS, config.unet.context)),
        Input("image", (BATCH, ram.TOKENS, image)),
    )


def _new_control(config: ModelConfig) -> ControlNetModel:
    """Build the ControlNet that diffusers derives from the UNet."""
    with torch.device("meta"):
        unet = new_unet(config)
    return ControlNetModel.from_unet(unet, load_weights_from_unet=False)


def _with_image(network: nn.Module, width: int) -> nn.Module:
    """Add a transformer for image tokens of this width after every text transformer, in place."""
    for name, module in list(network.named_modules()):
        if isinstance(module, Transformer2DModel):
            network.set_submodule(name, WithImage(module, width))
    return network
