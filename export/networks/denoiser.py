"""ControlNet and UNet as one network, with the prompt folded in."""

from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
)
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from ..checkpoint.config import CONTROL, UNET, ModelConfig


class Denoiser(nn.Module):
    """Map x, hint (batch, c, h, w) and time (batch,), all float32, to eps, shaped like x.

    ``text`` (batch, positions, width) is for training; an export folds it in. The ControlNet's
    input is state and hint, concatenated by channel. Its outputs are added to the UNet's skip
    connections and middle block.
    """

    def __init__(self, unet: UNet2DConditionModel, control: ControlNetModel) -> None:
        super().__init__()
        self.unet, self.control = unet, control

    def forward(self, x: Tensor, hint: Tensor, time: Tensor, text: Tensor | None = None) -> Tensor:
        if text is None:
            text = x[:, :, 0]  # folded keys and values use its batch size only
        down, middle = self.control(
            torch.cat([x, hint], dim=1), time, text, controlnet_cond=x, return_dict=False
        )
        eps: Tensor = self.unet(
            x,
            time,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]
        return eps


class FoldedProjection(nn.Module):
    """A key or value projection of a constant prompt: (batch, positions, width)."""

    def __init__(self, projection: nn.Linear, prompt: Tensor) -> None:
        super().__init__()
        self.projected = nn.Parameter(projection(prompt), requires_grad=False)

    def forward(self, text: Tensor) -> Tensor:
        return self.projected.expand(text.shape[0], -1, -1)


class _NoStem(nn.Module):
    """The absent image stem: DoSSR's hint is a latent, passed through the channels of conv_in."""

    def forward(self, _image: Tensor) -> float:
        return 0.0


def new_denoiser(config: ModelConfig) -> Denoiser:
    """Return the network with random weights on torch's default device, without a prompt."""
    return Denoiser(new_unet(config), new_control(config))


def new_unet(config: ModelConfig) -> UNet2DConditionModel:
    """Return a UNet with random weights."""
    latent = config.unet.latent_channels
    up = tuple("CrossAttnUpBlock2D" if has else "UpBlock2D" for has in config.unet.attention[::-1])
    return UNet2DConditionModel(
        in_channels=latent,
        out_channels=latent,
        up_block_types=up,
        **_shared_arguments(config),
    )


def new_control(config: ModelConfig) -> ControlNetModel:
    """Return a ControlNet with random weights."""
    channels = 2 * config.unet.latent_channels
    control = ControlNetModel(in_channels=channels, **_shared_arguments(config))
    control.controlnet_cond_embedding = _NoStem()
    return control


def denoiser(config: ModelConfig, tensors: dict[str, Tensor], prompt: Tensor) -> Denoiser:
    """Return the network with a checkpoint's weights and the prompt folded in.

    The weights are not copied, so ``tensors`` must outlive the network.
    """
    network = load_denoiser(config, tensors)
    fold_prompt(network, prompt)
    return network


def load_denoiser(config: ModelConfig, tensors: dict[str, Tensor]) -> Denoiser:
    """Return the network with a checkpoint's weights and the text as an input; nothing is copied."""
    with torch.device("meta"):
        network = new_denoiser(config)
    unet, control = network.unet, network.control
    unet.load_state_dict(
        convert_ldm_unet_checkpoint(
            {n: t for n, t in tensors.items() if n.startswith(UNET)}, unet.config
        ),
        assign=True,
    )
    control.load_state_dict(
        convert_controlnet_checkpoint(
            {n: t for n, t in tensors.items() if n.startswith(CONTROL)}, control.config
        ),
        assign=True,
    )
    network.eval().requires_grad_(False)
    return network


def _shared_arguments(config: ModelConfig) -> dict[str, Any]:
    """Return the arguments of the encoder half, which both networks share."""
    unet = config.unet
    return {
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if has else "DownBlock2D" for has in unet.attention
        ),
        "block_out_channels": unet.channels,
        "layers_per_block": unet.blocks,
        "transformer_layers_per_block": unet.depth,
        "cross_attention_dim": unet.context,
        "attention_head_dim": unet.heads,  # diffusers' name for the number of heads
        "use_linear_projection": unet.linear,
        "norm_num_groups": unet.groups,
    }


@torch.no_grad()
def fold_prompt(network: nn.Module, prompt: Tensor) -> None:
    """Replace every key and value projection of the prompt (1, positions, width) by its result."""
    for block in network.modules():
        if isinstance(block, BasicTransformerBlock):
            for name in ("to_k", "to_v"):
                projection = getattr(block.attn2, name)
                setattr(block.attn2, name, FoldedProjection(projection, prompt))
