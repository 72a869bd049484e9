"""Derives a model's configuration from the shapes of its tensors."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ...solvers import NoiseLevels
from ..errors import CheckpointError
from .config import (
    CONDITION,
    CONTROL,
    FAMILIES,
    NORM_GROUPS,
    RESTORER,
    TEXT,
    UNET,
    VAE,
    ModelConfig,
    RestorerConfig,
    Shape,
    TextConfig,
    UNetConfig,
    VaeConfig,
)

Shapes = Mapping[str, Shape]

_PARTS = {
    UNET: "UNet",
    CONTROL: "ControlNet",
    VAE: "VAE",
    TEXT: "text tower",
    CONDITION: "condition encoder",
    RESTORER: "restorer",
}
_CONTEXT = ".attn2.to_k.weight"
_HEAD_WIDTH = 64  # of the released model; no tensor's shape depends on head widths


@dataclass(frozen=True)
class Hints:
    """What only the YAML file states; None where it does not."""

    head_width: int | None = None
    head_count: int | None = None
    text_heads: int | None = None
    unet_groups: int = NORM_GROUPS
    vae_groups: int = NORM_GROUPS
    latent_scale: float = ModelConfig.latent_scale
    levels: NoiseLevels = field(default_factory=NoiseLevels)


def derive_config(shapes: Shapes, hints: Hints) -> ModelConfig:
    """Return the configuration whose networks have tensors of these shapes.

    The shapes do not determine head widths. Without a hint they are inferred: 64, as in the released
    model, or the largest power of two up to 64 that divides all widths. Raise CheckpointError where
    a network is missing or its parts do not fit each other.
    """
    _check_parts(shapes)
    unet = _unet(_Part(shapes, UNET), hints)
    return ModelConfig(
        unet=unet,
        vae=_vae(_Part(shapes, VAE), hints.vae_groups),
        text=_text(_Part(shapes, TEXT), hints.text_heads, unet.channels[0] // unet.heads[0]),
        restorer=_restorer(_Part(shapes, RESTORER)),
        latent_scale=hints.latent_scale,
        levels=hints.levels,
    )


def _check_parts(shapes: Shapes) -> None:
    """Raise CheckpointError where a network is absent, and name the model if it is a known one."""
    absent = [
        f"the {what} ({prefix}*)"
        for prefix, what in _PARTS.items()
        if not any(name.startswith(prefix) for name in shapes)
    ]
    if len(absent) == len(_PARTS):
        examples = ", ".join(f"{name!r:.60}" for name in list(shapes)[:2]) or "none"
        raise CheckpointError(
            f"not a DoSSR checkpoint: no tensor's name starts with {UNET}, got {examples}"
        )
    if absent:
        verb = "are" if len(absent) > 1 else "is"
        raise CheckpointError(
            f"not a DoSSR checkpoint: {' and '.join(absent)} {verb} absent{_family(shapes)}"
        )


def _family(shapes: Shapes) -> str:
    """Return which Stable Diffusion a UNet is by the width of its context, unless it is DoSSR's."""
    keys = [s[1] for n, s in shapes.items() if n.startswith(UNET) and n.endswith(_CONTEXT)]
    width = Counter(keys).most_common(1)[0][0] if keys else None
    if width not in FAMILIES:
        return ""
    return f"; its UNet is that of {FAMILIES[width]} (context {width}), DoSSR's of Stable Diffusion 2 (1024)"


class _Part:
    """The shapes below one prefix.

    Sizes are decided by majority, so that a missing or misshapen tensor does not change them. The
    comparison with the layout names that tensor later.
    """

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        self._prefix = prefix
        self._shapes = {
            n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)
        }

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self._shapes)

    def count(self, prefix: str) -> int:
        """Return the number of numbered modules below a prefix: the highest number plus one."""
        numbers = (
            n.removeprefix(prefix).split(".")[0] for n in self._shapes if n.startswith(prefix)
        )
        return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)

    def size(self, *places: tuple[str, int]) -> int:
        """Return the most frequent size among places, each a (tensor, axis)."""
        seen = Counter(
            self._shapes[name][axis]
            for name, axis in places
            if name in self._shapes and len(self._shapes[name]) > axis
        )
        if not seen:
            raise CheckpointError(f"tensor '{self._prefix}{places[0][0]}' is missing")
        return seen.most_common(1)[0][0]

    def ranks(self, names: Iterable[str]) -> list[int]:
        return [len(self._shapes[name]) for name in names if name in self._shapes]


def _unet(part: _Part, hints: Hints) -> UNetConfig:
    latent = part.size(("out.2.bias", 0), ("out.2.weight", 0), ("input_blocks.0.0.weight", 1))
    levels: list[list[int]] = [[]]
    for index in range(1, part.count("input_blocks.")):
        if part.has(f"input_blocks.{index}.0.op."):
            levels.append([])
        else:
            levels[-1].append(index)

    def width(index: int) -> int:
        at = f"input_blocks.{index}.0"
        names = (
            "in_layers.2.bias",
            "out_layers.3.bias",
            "out_layers.0.weight",
            "out_layers.0.bias",
        )
        return part.size(*((f"{at}.{name}", 0) for name in names))

    channels = tuple(width(level[0]) for level in levels if level)
    attention = tuple(
        any(part.has(f"input_blocks.{i}.1.") for i in level) for level in levels if level
    )
    blocks = Counter(len(level) for level in levels if level).most_common(1)[0][0]
    at = "middle_block.1"
    return UNetConfig(
        latent_channels=latent,
        channels=channels,
        blocks=blocks,
        attention=attention,
        depth=part.count(f"{at}.transformer_blocks."),
        context=part.size(
            *((f"{at}.transformer_blocks.0.attn2.to_{name}.weight", 1) for name in "kv")
        ),
        linear=2 in part.ranks((f"{at}.proj_in.weight", f"{at}.proj_out.weight")),
        heads=_heads(channels, hints),
        groups=hints.unet_groups,
    )


def _heads(channels: tuple[int, ...], hints: Hints) -> tuple[int, ...]:
    if (
        hints.head_count is not None and hints.head_width is None
    ):  # in LDM, a width takes precedence
        heads = (hints.head_count,) * len(channels)
    else:
        head_width = hints.head_width or math.gcd(_HEAD_WIDTH, *channels)
        heads = tuple(width // head_width for width in channels)
    for width, count in zip(channels, heads, strict=True):
        if count < 1 or width % count:
            raise CheckpointError(
                f"a UNet level of width {width} cannot be split into {count} heads, as unet_config's "
                "num_head_channels or num_heads demands; correct the YAML file"
            )
    return heads


def _vae(part: _Part, groups: int) -> VaeConfig:
    def width(level: int) -> int:
        at = f"encoder.down.{level}.block.0"
        names = ("conv1.bias", "conv2.bias", "norm2.weight", "norm2.bias")
        return part.size(*((f"{at}.{name}", 0) for name in names))

    levels = part.count("encoder.down.")
    return VaeConfig(
        latent_channels=part.size(
            ("post_quant_conv.bias", 0),
            ("post_quant_conv.weight", 0),
            ("decoder.conv_in.weight", 1),
        ),
        channels=tuple(width(level) for level in range(levels)),
        blocks=part.count("encoder.down.0.block."),
        attention=part.has("encoder.mid.attn_1.") or part.has("decoder.mid.attn_1."),
        groups=groups,
    )


def _text(part: _Part, heads: int | None, head_width: int) -> TextConfig:
    width = part.size(("ln_final.weight", 0), ("ln_final.bias", 0), ("token_embedding.weight", 1))
    return TextConfig(
        width=width,
        layers=part.count("transformer.resblocks."),
        heads=heads or max(1, width // head_width),
    )


def _restorer(part: _Part) -> RestorerConfig:
    return RestorerConfig(
        features=part.size(("conv_first.bias", 0), ("conv_first.weight", 0), ("conv_body.bias", 0)),
        blocks=part.count("body."),
        growth=part.size(
            ("body.0.rdb1.conv1.bias", 0),
            ("body.0.rdb1.conv2.bias", 0),
            ("body.0.rdb1.conv1.weight", 0),
        ),
    )
