"""ResShift's denoiser (Yue et al. 2023): LDM's UNet with Swin layers instead of attention.

Modules are named as in the official checkpoints. Feature maps are (batch, channels, height, width),
tokens (batch, windows, WINDOW**2, channels).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 8
_NOMINAL = 64
"""Side of the training latents; it determines which windows the official code shifts."""

_GROUPS = 32
_UNSEEN = -100.0
"""Added to the score of a token in another region."""


@dataclass(frozen=True)
class SwinUnetConfig:
    """Widths and depths; the first level has the resolution of the latent, each next level half."""

    latent_channels: int
    channels: tuple[int, ...]
    """Width of each level."""

    blocks: int
    """Residual blocks per level on the way down; one more on the way up."""

    swin: int
    """Width of the Swin layers at every level."""

    heads: int


class SwinUnet(nn.Module):
    """x (1, c, side, side), lq (1, 3, side, side), time (1,) -> predicted x0 (1, c, side, side).

    ``side`` is a multiple of 64. The attention masks, which depend on it, are part of the network.
    """

    def __init__(self, config: SwinUnetConfig, side: int) -> None:
        super().__init__()
        first, levels = config.channels[0], len(config.channels)
        self.features, embedded = first, 4 * first
        self.time_embed = nn.Sequential(
            nn.Linear(first, embedded), nn.SiLU(), nn.Linear(embedded, embedded)
        )

        def block(inside: int, level: int, swin: bool) -> Block:
            outside = config.channels[level]
            layers: list[nn.Module] = [ResBlock(inside, outside, embedded)]
            if swin:
                layers.append(SwinLayer(outside, config, side >> level, _shift(level)))
            return Block(layers)

        width = first
        entry = nn.Conv2d(config.latent_channels + 3, first, 3, padding=1)
        self.input_blocks, skips = nn.ModuleList([Block([entry])]), [first]
        for level in range(levels):
            for index in range(config.blocks):
                self.input_blocks.append(block(width, level, swin=index == 0))
                width = config.channels[level]
                skips.append(width)
            if level + 1 < levels:
                self.input_blocks.append(Block([Down(width)]))
                skips.append(width)

        self.middle_block = block(width, levels - 1, swin=True)
        self.middle_block.append(ResBlock(width, width, embedded))

        self.output_blocks = nn.ModuleList()
        for level in reversed(range(levels)):
            for index in range(config.blocks + 1):
                up = block(width + skips.pop(), level, swin=index == 0)
                width = config.channels[level]
                if level and index == config.blocks:
                    up.append(Up(width))
                self.output_blocks.append(up)

        last = nn.Conv2d(width, config.latent_channels, 3, padding=1)
        self.out = nn.Sequential(_norm(width), nn.SiLU(), last)

    def forward(self, x: Tensor, lq: Tensor, time: Tensor) -> Tensor:
        embedding = self.time_embed(time_features(time, self.features).to(x.dtype))
        hidden, skips = torch.cat([x, lq], 1), []
        for block in self.input_blocks:
            hidden = block(hidden, embedding)
            skips.append(hidden)
        hidden = self.middle_block(hidden, embedding)
        for block in self.output_blocks:
            hidden = block(torch.cat([hidden, skips.pop()], 1), embedding)
        x0: Tensor = self.out(hidden)
        return x0


class Block(nn.ModuleList):
    """Layers in sequence; residual blocks also receive the time embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class ResBlock(nn.Module):
    """Two convolutions; the time embedding scales and shifts the second norm's output."""

    def __init__(self, inside: int, outside: int, embedded: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            _norm(inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, 2 * outside))
        self.out_layers = nn.Sequential(
            _norm(outside), nn.SiLU(), nn.Identity(), nn.Conv2d(outside, outside, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, *rest = self.out_layers
        scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
        hidden: Tensor = norm(self.in_layers(x)) * (1.0 + scale) + shift
        for layer in rest:
            hidden = layer(hidden)
        skip: Tensor = self.skip_connection(x)
        return skip + hidden


class Down(nn.Module):
    """Halve height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        half: Tensor = self.op(x)
        return half


class Up(nn.Module):
    """Double height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        double: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return double


class SwinLayer(nn.Module):
    """Two Swin blocks between two 1x1 convolutions, without a residual connection."""

    def __init__(self, width: int, config: SwinUnetConfig, side: int, shift: int) -> None:
        super().__init__()
        self.patch_embed = Projection(width, config.swin)
        self.blocks = nn.Sequential(
            *(SwinBlock(config.swin, config.heads, side, by) for by in (0, shift))
        )
        self.patch_unembed = Projection(config.swin, width)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.patch_unembed(self.blocks(self.patch_embed(x)))
        return mixed


class Projection(nn.Module):
    """A 1x1 convolution; the official code calls it a patch embedding (patches of one pixel)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.proj(x)
        return projected


class SwinBlock(nn.Module):
    """Window attention, shifted by ``shift`` pixels in both directions, then an MLP per pixel."""

    attn_mask: Tensor | None

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.attn = WindowAttention(width, heads)
        self.mlp = Mlp(width, 4 * width)
        mask = shift_mask(side, shift) if shift else None
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm1(x)
        if self.shift:
            hidden = torch.roll(hidden, (-self.shift, -self.shift), (2, 3))
        hidden = from_windows(self.attn(to_windows(hidden), self.attn_mask), x.shape[3])
        if self.shift:
            hidden = torch.roll(hidden, (self.shift, self.shift), (2, 3))
        x = x + hidden
        mixed: Tensor = self.mlp(self.norm2(x))
        return x + mixed


class WindowAttention(nn.Module):
    """Self-attention within each window, with a learned bias per relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions(), persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows; ``mask`` (windows, 1, WINDOW**2, WINDOW**2) is added to the scores."""
        packed = self.qkv(tokens).unflatten(-1, (3, self.heads, -1))
        query, key, value = packed.permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
        if mask is not None:
            scores = scores + mask
        seen = scores.softmax(-1) @ value
        found: Tensor = self.proj(seen.transpose(2, 3).flatten(3))
        return found


class Mlp(nn.Module):
    """Two 1x1 convolutions around an exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


def time_features(time: Tensor, width: int) -> Tensor:
    """Return cosines, then sines, of times (n,) at ``width / 2`` frequencies from 1 to 1e-4."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=time.device) / half
    angle = time.float()[:, None] * torch.exp(-math.log(10000.0) * exponent)
    return torch.cat([angle.cos(), angle.sin()], 1)


def to_windows(x: Tensor) -> Tensor:
    """Split feature maps into window tokens, both in row-major order."""
    batch, channels, height, width = x.shape
    down, right = height // WINDOW, width // WINDOW
    tiles = x.reshape(batch, channels, down, WINDOW, right, WINDOW).permute(0, 2, 4, 3, 5, 1)
    return tiles.reshape(batch, down * right, WINDOW**2, channels)


def from_windows(tokens: Tensor, width: int) -> Tensor:
    """Invert ``to_windows`` for feature maps of this width."""
    batch, windows, _, channels = tokens.shape
    right = width // WINDOW
    down = windows // right
    tiles = tokens.reshape(batch, down, right, WINDOW, WINDOW, channels).permute(0, 5, 1, 3, 2, 4)
    return tiles.reshape(batch, channels, down * WINDOW, width)


def shift_mask(side: int, shift: int) -> Tensor:
    """Return the attention mask of a rolled map: (windows, 1, tokens, tokens).

    0 where two tokens of a window lie in one region of the rolled map, _UNSEEN elsewhere.
    """
    at = torch.arange(side)
    strip = (at >= side - WINDOW).int() + (at >= side - shift).int()
    region = to_windows((3 * strip[:, None] + strip)[None, None])[0, :, :, 0]
    apart = region[:, None, :, None] != region[:, None, None, :]
    return apart.float() * _UNSEEN


def relative_positions() -> Tensor:
    """Return the row of the bias table for each pair of tokens in a window: (tokens, tokens) int64."""
    at = torch.arange(WINDOW)
    rows, columns = at.repeat_interleave(WINDOW), at.repeat(WINDOW)
    down = rows[:, None] - rows + WINDOW - 1
    right = columns[:, None] - columns + WINDOW - 1
    return down * (2 * WINDOW - 1) + right


def _shift(level: int) -> int:
    """Return the shift of a Swin layer's second block; 0 where the training map is one window."""
    return WINDOW // 2 if _NOMINAL >> level > WINDOW else 0


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, width)
