"""RAM (Zhang et al. 2023) as fine-tuned by SeeSR: a Swin-L image tower and a tag head.

SeeSR's LoRA updates (rank 8) are merged into the weights before inference. The networks that run
exclude them; the sum in Table 1 includes them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SwinConfig, SwinModel

from ..system import Component, Figures, Input, Network

SIDE = 384
TOKENS = 145
"""Image tokens: the mean of the last feature map, then its 12 x 12 positions."""

_PATCH = 4
_WINDOW = 12
_RANK = 8
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's

# Millions of parameters.
_SWIN = 195.198516
_PROJECTION = 0.786944
_HEAD = 13.389312
_LABELS = 2.742273  # label vectors, their projection, the score layer
_LORA = 0.577536 + 0.045056  # of the tower, of the head


@dataclass(frozen=True)
class RamConfig:
    """Widths of RAM; the defaults are the released model's."""

    embedding: int = 192
    """Width of the tower's first stage; it doubles with each stage."""

    depths: tuple[int, ...] = (2, 2, 18, 2)
    heads: tuple[int, ...] = (6, 12, 24, 48)
    image: int = 512
    """Width of an image token and of a label vector."""

    hidden: int = 768
    """Width of the tag head."""

    tag_heads: int = 4
    tag_blocks: int = 2
    labels: int = 4585


REDUCED = RamConfig(
    embedding=16,
    depths=(1, 1, 2, 1),
    heads=(1, 2, 2, 2),
    image=32,
    hidden=64,
    labels=50,
)
"""The released architecture, narrow enough for tests."""


def widths(reduced: bool) -> RamConfig:
    """Return the configuration of the networks."""
    return REDUCED if reduced else RamConfig()


def prepare(lr: Tensor) -> Tensor:
    """Resize an image (1, 3, h, w) in [0, 1] to 384 x 384 and normalize it as for ImageNet."""
    image = F.interpolate(lr, (SIDE, SIDE), mode="bilinear")
    mean, std = (lr.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return (image - mean) / std


class Tower(nn.Module):
    """A prepared image (1, 3, 384, 384) -> image tokens (1, 145, width), the mean first."""

    def __init__(self, config: RamConfig) -> None:
        super().__init__()
        self.swin = SwinModel(
            SwinConfig(
                image_size=SIDE,
                patch_size=_PATCH,
                embed_dim=config.embedding,
                depths=list(config.depths),
                num_heads=list(config.heads),
                window_size=_WINDOW,
            ),
            add_pooling_layer=False,
        )
        self.projection = nn.Linear(self.swin.num_features, config.image)

    def forward(self, image: Tensor) -> Tensor:
        features = self.swin(image).last_hidden_state
        tokens: Tensor = self.projection(torch.cat([features.mean(1, keepdim=True), features], 1))
        return tokens


class TagHead(nn.Module):
    """Image tokens (1, 145, width) -> probabilities (1, labels)."""

    def __init__(self, config: RamConfig) -> None:
        super().__init__()
        self.labels = nn.Parameter(torch.zeros(config.labels, config.image))
        self.project = nn.Linear(config.image, config.hidden)
        self.blocks = nn.ModuleList(TagBlock(config) for _ in range(config.tag_blocks))
        self.score = nn.Linear(config.hidden, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.relu(self.project(self.labels)).expand(tokens.shape[0], -1, -1)
        for block in self.blocks:
            x = block(x, tokens)
        return torch.sigmoid(self.score(x)).squeeze(-1)


class TagBlock(nn.Module):
    """BERT's block (post-norm, GELU) with cross-attention to image tokens, without self-attention."""

    def __init__(self, config: RamConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden, config.tag_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.image, width)
        self.value = nn.Linear(config.image, width)
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=1e-12)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        split = [
            tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for tensor in (self.query(x), self.key(tokens), self.value(tokens))
        ]
        attended = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        x = self.attended_norm(x + self.attended(attended))
        out: Tensor = self.norm(x + self.narrow(F.gelu(self.widen(x))))
        return out


def tower(config: RamConfig, calls: int) -> Network:
    """Return the image tower with the projection of its tokens."""
    return Network(
        "ram",
        lambda: Tower(config),
        (Input("image", (1, 3, SIDE, SIDE)),),
        ("tokens",),
        calls,
        Figures(_SWIN + _PROJECTION, 103.918 + 0.114),
    )


def tag_head(config: RamConfig, calls: int) -> Network:
    """Return the tag head."""
    return Network(
        "tags",
        lambda: TagHead(config),
        (Input("tokens", (1, TOKENS, config.image)),),
        ("probabilities",),
        calls,
        Figures(_HEAD + _LABELS, 58.160),
    )


def components(config: RamConfig) -> tuple[Component, ...]:
    """Return RAM's summands in Table 1; the unused text decoder and tag encoder are excluded."""
    return (
        Component("RAM image tower", lambda: Tower(config), _SWIN + _PROJECTION),
        Component("RAM tag head", lambda: TagHead(config), _HEAD + _LABELS),
        Component("RAM LoRA", lambda: _lora(config), _LORA),
    )


def _lora(config: RamConfig) -> nn.Module:
    """Build the LoRA updates: query and value in the tower, query and key in the tag head.

    They are only counted.
    """
    stages = [config.embedding * 2**stage for stage in range(len(config.depths))]
    shapes = [
        (width, width)
        for width, depth in zip(stages, config.depths, strict=True)
        for _ in range(2 * depth)
    ]
    shapes += [(config.hidden, config.hidden), (config.image, config.hidden)] * config.tag_blocks
    return nn.ModuleList(
        nn.Sequential(nn.Linear(i, _RANK, bias=False), nn.Linear(_RANK, o, bias=False))
        for i, o in shapes
    )
