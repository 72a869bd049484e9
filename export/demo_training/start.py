"""Initial weights: networks that are linear at first and already do most of the work.

``steady.py`` gives the third device to every norm of a trained autoencoder.

After a minute on one CPU core, an autoencoder of this size reaches 17 dB from random weights and
37 dB from these. Three devices:

- The last convolution of every residual block is zero, so the block starts as its shortcut.
- SiLU(a) - SiLU(-a) = a: a pair of opposite channels passes an activation unchanged.
- A pair of large constant channels in every group makes a normalisation nearly independent of the
  image; the norm's gain compensates their standard deviation.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..networks.denoiser import Denoiser
from ..networks.restorer import RRDBNet

_CARRIER = 8.0
"""Value of the constant channels; signals are of the order of 1."""

_UNUSED = 0.3
"""Factor on a head's random weights for channels without a signal."""

_LUMA_CHROMA = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))
_HAAR = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


def start_autoencoder(vae: AutoencoderKL, log_variance: float) -> None:
    """Let the latent hold luma as Haar coefficients and chroma at half the resolution.

    The VAE must have two levels (f2) and at least six latent channels. ``log_variance``: the
    posterior's initial log-variance.
    """
    close_blocks(vae)
    encoder, decoder, latent = vae.encoder, vae.decoder, vae.config.latent_channels
    signals = 6
    with torch.no_grad():
        mix = torch.tensor(_LUMA_CHROMA)
        _set(encoder.conv_in, _centered(mix))
        down = torch.zeros(signals, 3, 2, 2)
        haar = torch.tensor(_HAAR, dtype=torch.float32).view(4, 2, 2) / 2.0
        down[:4, 0] = haar
        down[1:4, 0] *= 2.0  # detail is weak; this brings it to the order of the rest
        down[4, 1] = down[5, 2] = haar[0] * 2.0
        _set(encoder.down_blocks[0].downsamplers[0].conv, down)
        _head(
            encoder.down_blocks[1].resnets[0].conv_shortcut,
            encoder.conv_norm_out,
            encoder.conv_out,
            _take(range(signals)),
            torch.eye(signals),
        )
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight.zero_()
            conv.weight[range(latent), range(latent)] = 1.0
            conv.bias.zero_()
        vae.quant_conv.bias[latent:] = log_variance
        _set(decoder.conv_in, _centered(torch.eye(signals)))
        up = torch.zeros(3, signals, 3, 3)
        up[0, 0, 1, 1] = 0.5
        up[0, 1, 1] = up[0, 2, :, 1] = torch.tensor([-0.25, 0.0, 0.25])
        smooth = torch.tensor([0.25, 0.5, 0.25])
        up[1, 4] = up[2, 5] = 0.25 * torch.outer(smooth, smooth)
        _set(decoder.up_blocks[0].upsamplers[0].conv, up)
        _head(
            decoder.up_blocks[1].resnets[0].conv_shortcut,
            decoder.conv_norm_out,
            decoder.conv_out,
            _take(range(3)),
            torch.linalg.inv(mix),
        )


def start_restorer(network: RRDBNet) -> None:
    """Start as a smooth enlargement; images are not negative, so LeakyReLU passes them."""
    rgb = torch.eye(3)
    smooth = torch.tensor([0.25, 0.5, 0.25])
    with torch.no_grad():
        _set(network.conv_first, _centered(rgb))
        network.conv_body.weight[:3] = 0.0
        network.conv_body.bias[:3] = 0.0  # type: ignore[index]
        for conv in (network.conv_up1, network.conv_up2):
            _set(conv, rgb[:, :, None, None] * torch.outer(smooth, smooth))
        _set(network.conv_hr, _centered(rgb))
        _set(network.conv_last, _centered(rgb))


def start_denoiser(network: Denoiser, gains: tuple[float, float]) -> None:
    """Start as the sum of state and hint with these gains; the hint takes the ControlNet's first output."""
    close_blocks(network)
    unet, control = network.unet, network.control
    latent = unet.config.in_channels
    with torch.no_grad():
        x, hint = range(latent), range(latent, 2 * latent)
        silent = torch.zeros(2 * latent, latent)
        silent[x] = torch.eye(latent)
        _set(unet.conv_in, _centered(silent))
        _set(control.conv_in, _centered(torch.eye(2 * latent)))
        first = control.controlnet_down_blocks[0]
        for channel in hint:
            first.weight[channel, channel] = 1.0
        last = unet.up_blocks[-1].resnets[-1]
        skip = last.conv_shortcut.in_channels - unet.conv_in.out_channels
        rows = torch.zeros(latent, last.conv_shortcut.in_channels)
        rows[x, torch.tensor(x) + skip] = gains[0]
        rows[x, torch.tensor(hint) + skip] = gains[1]
        _head(last.conv_shortcut, unet.conv_norm_out, unet.conv_out, rows, torch.eye(latent))


def close_blocks(network: nn.Module) -> None:
    """Make every residual block start as its shortcut."""
    for block in network.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)


@dataclass(frozen=True)
class _Channels:
    """The channels of a head that carry signal k, its opposite, and the constants."""

    plus: list[int]
    minus: list[int]
    high: list[int]
    low: list[int]


def _channels(count: int, groups: int, signals: int) -> _Channels:
    """Distribute pairs over the groups; the last two channels of a group are its constants."""
    size, per_group = count // groups, -(-signals // groups)
    if 2 * per_group + 2 > size:
        raise ValueError(
            f"{signals} signals must fit into the groups, got {count} channels in {groups} groups"
        )
    plus = [k // per_group * size + 2 * (k % per_group) for k in range(signals)]
    ends = [(group + 1) * size for group in range(groups)]
    return _Channels(
        plus, [channel + 1 for channel in plus], [e - 2 for e in ends], [e - 1 for e in ends]
    )


def _head(
    shortcut: nn.Conv2d, norm: nn.GroupNorm, out: nn.Conv2d, rows: Tensor, mix: Tensor
) -> None:
    """Let norm, SiLU and ``out`` compute ``mix @ signals``.

    Signal k is ``rows[k]`` applied to the input of ``shortcut``, a 1x1 convolution.
    """
    assert shortcut.bias is not None
    assert out.bias is not None
    signals = len(rows)
    place = _channels(norm.num_channels, norm.num_groups, signals)
    used = [*place.plus, *place.minus, *place.high, *place.low]
    shortcut.weight[used] = 0.0
    shortcut.bias[used] = 0.0
    shortcut.weight[place.plus, : rows.shape[1], 0, 0] = rows
    shortcut.weight[place.minus, : rows.shape[1], 0, 0] = -rows
    shortcut.bias[place.high] = _CARRIER
    shortcut.bias[place.low] = -_CARRIER
    size = norm.num_channels // norm.num_groups
    norm.weight.fill_(_CARRIER * (2.0 / size) ** 0.5)
    norm.bias.zero_()
    out.weight.mul_(_UNUSED)
    out.weight[:, used] = 0.0
    out.bias.zero_()
    middle = out.kernel_size[0] // 2
    for sign, channels in ((1.0, place.plus), (-1.0, place.minus)):
        out.weight[: len(mix), channels, middle, middle] = sign * mix


def _set(conv: nn.Conv2d, weight: Tensor) -> None:
    """Set the first outputs of a convolution; a smaller kernel goes to the first corner."""
    outputs, inputs, height, width = weight.shape
    assert conv.bias is not None
    conv.weight[:outputs] = 0.0
    conv.bias[:outputs] = 0.0
    conv.weight[:outputs, :inputs, :height, :width] = weight


def _centered(matrix: Tensor) -> Tensor:
    """Return a 3x3 kernel that mixes channels at its centre."""
    kernel = torch.zeros(*matrix.shape, 3, 3)
    kernel[:, :, 1, 1] = matrix
    return kernel


def _take(channels: range) -> Tensor:
    """Return rows that select one channel each."""
    return torch.eye(channels.stop)[list(channels)]
