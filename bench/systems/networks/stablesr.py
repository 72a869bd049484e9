"""StableSR's time-aware encoder, and SD's UNet with SPADE modulation in its residual blocks."""

from dataclasses import dataclass
from itertools import pairwise

from diffusers import UNet2DConditionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from ....export.checkpoint.config import NORM_GROUPS, ModelConfig
from ....export.networks.denoiser import new_unet
from ..system import Figures, Input, Network
from . import sd

MAPS = tuple(f"map_{level}" for level in range(4))
"""Names of the maps from the encoder to the UNet, one per level, finest first."""

_EPS = 1e-5  # of every norm here


@dataclass(frozen=True)
class StructConfig:
    """Sizes of the time-aware encoder (Wang et al. 2023) and of SPADE."""

    channels: tuple[int, ...] = (256, 256, 512, 512)
    """Width of each level, finest first."""

    blocks: int = 2
    """Residual blocks per level."""

    attention: tuple[bool, ...] = (True, True, True, False)
    """Levels with attention; the middle always has attention."""

    heads: int = 4
    map: int = 256
    """Width of every map."""

    hidden: int = 128
    """Width between a map and its modulation."""


# A norm with one channel per group would cancel the time embedding, so groups of maps have two.
REDUCED = StructConfig(channels=(32, 32, 64, 64), blocks=1, heads=1, map=64, hidden=8)


class SelfAttention(nn.Module):
    """Self-attention over the pixels of (n, width, h, w), with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(NORM_GROUPS, width, eps=_EPS)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x).flatten(2))
        q, k, v = qkv.unflatten(1, (self.heads, -1)).transpose(2, 3).chunk(3, dim=-1)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(1, 2)
        out: Tensor = x + self.proj_out(seen).view_as(x)
        return out


class Level(nn.Module):
    """Residual blocks at one resolution, with or without attention: x, time embedding -> x."""

    def __init__(self, widths: tuple[int, ...], embedding: int, heads: int | None) -> None:
        """``widths``: of the input and of each block's output. ``heads``: None for no attention."""
        super().__init__()
        self.resnets = nn.ModuleList(
            _resnet(before, after, embedding) for before, after in pairwise(widths)
        )
        self.attentions = nn.ModuleList(
            SelfAttention(after, heads) if heads else nn.Identity() for after in widths[1:]
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for resnet, attention in zip(self.resnets, self.attentions, strict=True):
            x = attention(resnet(x, embedding))
        return x


class TimeAwareEncoder(nn.Module):
    """x_lr (1, 4, h, w), scaled, and time (1,) -> a map per level, (1, width, h / 2^i, w / 2^i)."""

    def __init__(self, config: StructConfig, latent_channels: int) -> None:
        super().__init__()
        first, last, embedding = config.channels[0], config.channels[-1], 4 * config.channels[0]
        self.time_proj = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, embedding)
        self.conv_in = nn.Conv2d(latent_channels, first, 3, padding=1)
        self.levels, self.downs = nn.ModuleList(), nn.ModuleList()
        before = first
        for width, has in zip(config.channels, config.attention, strict=True):
            widths = (before, *[width] * config.blocks)
            self.levels.append(Level(widths, embedding, config.heads if has else None))
            before = width
        for width in config.channels[:-1]:
            self.downs.append(Downsample2D(width, use_conv=True, padding=1))
        self.middle = Level((last, last), embedding, config.heads)
        self.middle_end = _resnet(last, last, embedding)
        self.to_maps = nn.ModuleList(
            _resnet(width, config.map, embedding) for width in config.channels
        )

    def forward(self, x_lr: Tensor, time: Tensor) -> tuple[Tensor, ...]:
        embedding = self.time_embedding(self.time_proj(time).to(x_lr.dtype))
        x, features = self.conv_in(x_lr), []
        for level, down in zip(self.levels, self.downs, strict=False):
            x = level(x, embedding)
            features.append(x)
            x = down(x)
        x = self.middle(self.levels[-1](x, embedding), embedding)
        features.append(self.middle_end(x, embedding))
        return tuple(f(x, embedding) for f, x in zip(self.to_maps, features, strict=True))


class Spade(nn.Module):
    """Normalize x (n, width, h, w), then scale and shift it by functions of a map of its size."""

    def __init__(self, width: int, config: StructConfig) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, width, eps=_EPS)
        self.shared = nn.Conv2d(config.map, config.hidden, 3, padding=1)
        self.gamma = nn.Conv2d(config.hidden, width, 3, padding=1)
        self.beta = nn.Conv2d(config.hidden, width, 3, padding=1)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        hidden = F.relu(self.shared(image))
        out: Tensor = self.norm(x) * (1.0 + self.gamma(hidden)) + self.beta(hidden)
        return out


class SpadeBlock(nn.Module):
    """A residual block of the UNet whose branch ends with SPADE.

    Replaces a ResnetBlock2D. The time embedding from the surrounding blocks is therefore a pair: the
    embedding, and the maps by their width in pixels.
    """

    def __init__(self, block: ResnetBlock2D, config: StructConfig) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.time_emb_proj = block.time_emb_proj
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut or nn.Identity()
        self.spade = Spade(block.out_channels, config)

    def forward(self, x: Tensor, time: tuple[Tensor, dict[int, Tensor]]) -> Tensor:
        embedding, maps = time
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.conv_shortcut(x) + self.spade(h, maps[h.shape[-1]])
        return out


class TimeWithMaps(nn.Module):
    """The UNet's time embedding, paired with the maps so that both reach every block."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, time: Tensor, maps: dict[int, Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
        return self.embedding(time), maps


class Unet(nn.Module):
    """x (1, 4, h, w), time (1,), context (1, 77, width) and the maps, finest first -> eps."""

    def __init__(self, unet: UNet2DConditionModel, config: StructConfig) -> None:
        super().__init__()
        for name, module in list(unet.named_modules()):
            if isinstance(module, ResnetBlock2D):
                unet.set_submodule(name, SpadeBlock(module, config))
        unet.time_embedding = TimeWithMaps(unet.time_embedding)
        self.unet = unet

    def forward(self, x: Tensor, time: Tensor, context: Tensor, *maps: Tensor) -> Tensor:
        by_width = {image.shape[-1]: image for image in maps}
        eps: Tensor = self.unet(x, time, context, timestep_cond=by_width, return_dict=False)[0]
        return eps


def struct(config: ModelConfig, maps: StructConfig, side: int, calls: int) -> Network:
    """Return the time-aware encoder, for a square latent of ``side``."""
    return Network(
        "struct",
        lambda: TimeAwareEncoder(maps, config.unet.latent_channels),
        (sd.latent_input("x_lr", config, side), Input("time", (1,))),
        MAPS,
        calls,
        Figures(52.494080, 44.714),
    )


def unet(config: ModelConfig, maps: StructConfig, side: int, calls: int) -> Network:
    """Return the UNet with SPADE, for a square latent of ``side``."""
    return Network(
        "unet",
        lambda: Unet(new_unet(config), maps),
        (
            sd.latent_input("x", config, side),
            Input("time", (1,)),
            sd.context_input(config),
            *(
                Input(name, (1, maps.map, side >> level, side >> level))
                for level, name in enumerate(MAPS)
            ),
        ),
        ("eps",),
        calls,
        Figures(918.930884, 437.933),
    )


def _resnet(inputs: int, outputs: int, embedding: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=inputs,
        out_channels=outputs,
        temb_channels=embedding,
        groups=NORM_GROUPS,
        eps=_EPS,
    )
