"""SwinIR (Liang et al. 2021) as in DiffBIR v1, with the tensor names of the official file."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 8
FACTOR = 8
"""The trunk runs at 1 / FACTOR of the image's sides."""

_MEAN = (0.4488, 0.4371, 0.4040)
_SLOPE = 0.2  # of the LeakyReLUs after the upsampling convolutions
_APART = -100.0  # score of two tokens that are not adjacent in the image


@dataclass(frozen=True)
class SwinIRConfig:
    """Sizes of SwinIR; the defaults are DiffBIR's."""

    width: int = 180
    groups: int = 8
    blocks: int = 6
    """Blocks per group; every second block is shifted by half a window."""

    heads: int = 6
    features: int = 64
    """Channels between the trunk and the image."""


class SwinIR(nn.Module):
    """Square images (batch, 3, side, side) in [0, 1] -> restored images, unclamped."""

    mean: Tensor

    def __init__(self, config: SwinIRConfig, side: int) -> None:
        """``side``: of the images, a multiple of 64, at least 128; the attention masks depend on it."""
        super().__init__()
        width, features = config.width, config.features
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Sequential(nn.PixelUnshuffle(FACTOR), _conv(3 * FACTOR**2, width))
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(width)))
        self.layers = nn.Sequential(
            *(ResidualGroup(config, side // FACTOR) for _ in range(config.groups))
        )
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = _conv(width, width)
        self.conv_before_upsample = nn.Sequential(_conv(width, features), nn.LeakyReLU(0.01))
        self.conv_up1 = _conv(features, features)
        self.conv_up2 = _conv(features, features)
        self.conv_up3 = _conv(features, features)
        self.conv_hr = _conv(features, features)
        self.conv_last = _conv(features, 3)

    def forward(self, image: Tensor) -> Tensor:
        first = self.conv_first(image - self.mean)
        tokens = self.norm(self.layers(self.patch_embed(first.permute(0, 2, 3, 1))))
        x = self.conv_before_upsample(self.conv_after_body(tokens.permute(0, 3, 1, 2)) + first)
        for conv in (self.conv_up1, self.conv_up2, self.conv_up3):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), _SLOPE)
        restored: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE)) + self.mean
        return restored


class ResidualGroup(nn.Module):
    """Transformer blocks and a convolution with a residual connection; (batch, h, w, channels)."""

    def __init__(self, config: SwinIRConfig, side: int) -> None:
        super().__init__()
        blocks = (
            Block(config.width, config.heads, side, WINDOW // 2 if i % 2 else 0)
            for i in range(config.blocks)
        )
        self.residual_group = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))
        self.conv = _conv(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        change = self.conv(self.residual_group(x).permute(0, 3, 1, 2))
        out: Tensor = x + change.permute(0, 2, 3, 1)
        return out


class Block(nn.Module):
    """Window attention, then an MLP; (batch, side, side, channels) in and out.

    The windows of a shifted block wrap around the edges; a mask separates tokens that are not
    adjacent.
    """

    attn_mask: Tensor | None

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.register_buffer("attn_mask", _mask(side, shift) if shift else None)
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, 2 * width), act=nn.GELU(), fc2=nn.Linear(2 * width, width)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        moved = self._roll(self.norm1(x), -self.shift)
        attended = _joined(self.attn(_windows(moved), self.attn_mask), x.shape[1])
        x = x + self._roll(attended, self.shift)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _roll(self, x: Tensor, by: int) -> Tensor:
        return torch.roll(x, (by, by), (1, 2)) if by else x


class WindowAttention(nn.Module):
    """Self-attention within a window, with a learned bias per relative offset."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", _offsets())
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows: x (batch * windows, 64, channels); ``mask`` (windows, 64, 64) is added to the scores."""
        count, tokens, width = x.shape
        split = self.qkv(x).reshape(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        scores = q * (width // self.heads) ** -0.5 @ k.transpose(-2, -1)
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(
            2, 0, 1
        )
        if mask is not None:
            by_image = scores.reshape(-1, len(mask), self.heads, tokens, tokens)
            scores = (by_image + mask[:, None]).reshape(scores.shape)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(count, tokens, width)
        out: Tensor = self.proj(mixed)
        return out


def _windows(x: Tensor) -> Tensor:
    """Split (batch, height, width, channels) into windows (batch * windows, 64, channels)."""
    batch, height, width, channels = x.shape
    cut = x.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return cut.transpose(2, 3).reshape(-1, WINDOW**2, channels)


def _joined(windows: Tensor, side: int) -> Tensor:
    """Invert ``_windows`` for a square image."""
    count, channels = side // WINDOW, windows.shape[-1]
    cut = windows.reshape(-1, count, count, WINDOW, WINDOW, channels)
    return cut.transpose(2, 3).reshape(-1, side, side, channels)


def _mask(side: int, shift: int) -> Tensor:
    """Return the attention mask of each window of a shifted image; (n, 64, 64)."""
    wrapped = (torch.arange(side) >= side - shift).float()
    part = 2.0 * wrapped[:, None] + wrapped
    parts = _windows(part[None, :, :, None]).squeeze(-1)
    return _APART * (parts[:, :, None] != parts[:, None, :]).float()


def _offsets() -> Tensor:
    """Return the row of the bias table for each pair of tokens in a window; (64, 64) int64."""
    place = torch.arange(WINDOW)
    row, column = place.repeat_interleave(WINDOW), place.repeat(WINDOW)
    down, right = row[:, None] - row, column[:, None] - column
    return (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1


def _conv(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1)
