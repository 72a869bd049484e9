"""What a DoSSR checkpoint holds: read from its tensors' shapes and from the official YAML file."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..solvers import NoiseLevels
from .errors import CheckpointError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

UNET = "model.diffusion_model."
CONTROL = "control_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.model."
CONDITION = "cond_encoder."
RESTORER = "preprocess_model."
PARTS = (UNET, CONTROL, VAE, TEXT, CONDITION, RESTORER)

UPSCALING = 4
LATENT_MULTIPLE = 8  # of latent sides, in every model: SD's UNet halves three times
HEAD_WIDTH = 64  # of the released model; head widths leave no trace in the tensors


@dataclass(frozen=True)
class UNetConfig:
    """The denoiser (LDM's UNetModel); the ControlNet is its encoder half."""

    latent_channels: int
    channels: tuple[int, ...]
    """Width of each level, finest first."""

    blocks: int
    """Residual blocks per level of the encoder; the decoder has one more."""

    attention: tuple[bool, ...]
    """Which levels have transformers; the middle always has one."""

    depth: int
    """Transformer blocks in each transformer."""

    context: int
    """Width of the text embedding."""

    linear: bool
    """Whether transformers project with linear layers (SD 2) or with 1x1 convolutions (SD 1)."""

    heads: tuple[int, ...]
    """Attention heads of each level; the middle has as many as the last."""

    @property
    def factor(self) -> int:
        """Latent sides must be multiples of this."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class VaeConfig:
    """The autoencoder (LDM's AutoencoderKL); cond_encoder is its encoder half."""

    latent_channels: int
    channels: tuple[int, ...]
    blocks: int
    attention: bool = True
    """Whether the middle of encoder and decoder has attention; the released model's has."""

    @property
    def factor(self) -> int:
        """How many times smaller a latent's sides are than the image's."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class TextConfig:
    """The text tower of OpenCLIP; its last block is not run."""

    width: int
    layers: int
    heads: int
    vocabulary: int = 49408
    positions: int = 77


@dataclass(frozen=True)
class RestorerConfig:
    """The RRDBNet in front."""

    features: int
    blocks: int
    growth: int


@dataclass(frozen=True)
class ModelConfig:
    """Everything that building the networks needs besides the tensors."""

    unet: UNetConfig
    vae: VaeConfig
    text: TextConfig
    restorer: RestorerConfig
    latent_scale: float = 0.18215
    levels: NoiseLevels = field(default_factory=NoiseLevels)

    def __post_init__(self) -> None:
        if self.unet.latent_channels != self.vae.latent_channels:
            raise CheckpointError(
                f"the VAE has {self.vae.latent_channels} latent channels and the UNet "
                f"{self.unet.latent_channels}; they must be equal"
            )
        if self.text.width != self.unet.context:
            raise CheckpointError(
                f"the text tower is {self.text.width} wide and the UNet wants {self.unet.context}"
            )
        if self.text.width % self.text.heads:
            raise CheckpointError(
                f"a text tower of width {self.text.width} cannot have {self.text.heads} heads; "
                "say how many with cond_stage_config.params.heads in the YAML file"
            )

    @property
    def size_multiple(self) -> int:
        """LR sides must be multiples of this (images are padded to it): 16 where the VAE shrinks
        by 8, 8 where it shrinks by 4."""
        latent = math.lcm(self.unet.factor, LATENT_MULTIPLE)
        return max(1, latent * self.vae.factor // UPSCALING)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, for the manifest."""
        return asdict(self)


OFFICIAL = ModelConfig(
    unet=UNetConfig(
        latent_channels=4,
        channels=(320, 640, 1280, 1280),
        blocks=2,
        attention=(True, True, True, False),
        depth=1,
        context=1024,
        linear=True,
        heads=(5, 10, 20, 20),
    ),
    vae=VaeConfig(latent_channels=4, channels=(128, 256, 512, 512), blocks=2),
    text=TextConfig(width=1024, layers=24, heads=16),
    restorer=RestorerConfig(features=64, blocks=23, growth=32),
)
"""The released model: 1717.6 million parameters."""


@dataclass(frozen=True)
class Hints:
    """What the YAML file says and the tensors cannot; None where it is silent."""

    head_width: int | None = None
    head_count: int | None = None
    text_heads: int | None = None
    latent_scale: float = ModelConfig.latent_scale
    levels: NoiseLevels = field(default_factory=NoiseLevels)


def derive_config(shapes: Shapes, hints: Hints) -> ModelConfig:
    """The configuration that gives a checkpoint these tensors.

    Head widths leave no trace in the tensors: without a hint they are taken as the released
    model's 64, or, in a network too narrow for that, as the widest power of two that divides it.
    """
    for part in PARTS:
        if not any(name.startswith(part) for name in shapes):
            raise CheckpointError(f"no DoSSR checkpoint: it has no tensor named '{part}*'")
    unet = _unet(_Part(shapes, UNET), hints)
    return ModelConfig(
        unet=unet,
        vae=_vae(_Part(shapes, VAE)),
        text=_text(_Part(shapes, TEXT), hints.text_heads, unet.channels[0] // unet.heads[0]),
        restorer=_restorer(_Part(shapes, RESTORER)),
        latent_scale=hints.latent_scale,
        levels=hints.levels,
    )


class _Part:
    """The tensors below one prefix; a size is what most of the tensors that show it say.

    So one missing or misshapen tensor does not change what is derived, and is named afterwards.
    """

    def __init__(self, shapes: Shapes, prefix: str) -> None:
        self._prefix = prefix
        self._shapes = {
            n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)
        }

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self._shapes)

    def count(self, prefix: str) -> int:
        """How many numbered modules follow a prefix: the highest number plus one."""
        numbers = (
            n.removeprefix(prefix).split(".")[0] for n in self._shapes if n.startswith(prefix)
        )
        return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)

    def size(self, *places: tuple[str, int]) -> int:
        """The size most often seen at (tensor, axis)."""
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
    )


def _heads(channels: tuple[int, ...], hints: Hints) -> tuple[int, ...]:
    if hints.head_count is not None and hints.head_width is None:  # LDM lets the width win
        heads = (hints.head_count,) * len(channels)
    else:
        head_width = hints.head_width or math.gcd(HEAD_WIDTH, *channels)
        heads = tuple(width // head_width for width in channels)
    for width, count in zip(channels, heads, strict=True):
        if count < 1 or width % count:
            raise CheckpointError(
                f"a UNet level of width {width} cannot have the heads that unet_config's "
                "num_head_channels or num_heads gives; correct the YAML file"
            )
    return heads


def _vae(part: _Part) -> VaeConfig:
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


def read_yaml(path: Path) -> dict[str, Any]:
    """The ``params`` of the official YAML file. Its ``target`` strings are text, never imported."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"cannot read the configuration {path}: {reason}") from error
    document = document.get("model", document) if isinstance(document, dict) else None
    params = document.get("params") if isinstance(document, dict) else None
    if not isinstance(params, dict):
        raise CheckpointError(f"{path} must be the official model YAML: it has no 'params' mapping")
    return params


# Fields that say what the networks or the process are: other values than these are other models.
_FIXED = (
    ("", "parameterization", "eps"),
    ("", "beta_schedule", "linear"),  # LDM's word for linear in the square root
    ("", "only_mid_control", False),
    ("unet_config", "use_spatial_transformer", True),
    ("unet_config", "use_scale_shift_norm", False),
    ("unet_config", "resblock_updown", False),
    ("unet_config", "num_classes", None),
    ("cond_stage_config", "layer", "penultimate"),
    ("preprocess_config", "scale", UPSCALING),
)


def hints(params: Mapping[str, Any]) -> Hints:
    """What only the YAML file knows. Refuses variants that DoSSR's networks do not have."""
    for section, name, wanted in _FIXED:
        found = _params(params, section).get(name, wanted)
        if found != wanted:
            where = f"{section}.{name}".lstrip(".")
            raise CheckpointError(f"{where} must be {wanted} in the YAML file, got {found!r}")
    unet = _params(params, "unet_config")
    control = {**unet, **_params(params, "control_stage_config")}
    for name in ("num_head_channels", "num_heads"):
        if control.get(name) != unet.get(name):
            raise CheckpointError(
                f"{name} must be the same in unet_config and control_stage_config"
            )
    defaults = NoiseLevels()
    return Hints(
        head_width=_count(unet, "num_head_channels"),
        head_count=_count(unet, "num_heads"),
        text_heads=_count(_params(params, "cond_stage_config"), "heads"),
        latent_scale=_number(params, "scale_factor", Hints.latent_scale),
        levels=NoiseLevels(
            linear_start=_number(params, "linear_start", defaults.linear_start),
            linear_end=_number(params, "linear_end", defaults.linear_end),
            timesteps=_count(params, "timesteps") or defaults.timesteps,
        ),
    )


def check_yaml(params: Mapping[str, Any], config: ModelConfig) -> None:
    """Raise where the YAML file and the tensors contradict each other."""
    unet, text = _params(params, "unet_config"), _params(params, "cond_stage_config")
    vae = _params(params, "first_stage_config").get("ddconfig") or {}
    restorer = _params(params, "preprocess_config")
    base, ch = config.unet.channels[0], config.vae.channels[0]
    levels = tuple(2**i for i, has in enumerate(config.unet.attention) if has)
    facts: list[tuple[str, Any, Any]] = [
        ("unet_config.model_channels", unet.get("model_channels"), base),
        ("unet_config.channel_mult", _widths(unet, "channel_mult", base), config.unet.channels),
        ("unet_config.num_res_blocks", _same(unet.get("num_res_blocks")), config.unet.blocks),
        ("unet_config.attention_resolutions", _rising(unet.get("attention_resolutions")), levels),
        ("unet_config.in_channels", unet.get("in_channels"), config.unet.latent_channels),
        ("unet_config.context_dim", _same(unet.get("context_dim")), config.unet.context),
        ("unet_config.transformer_depth", _same(unet.get("transformer_depth")), config.unet.depth),
        (
            "unet_config.use_linear_in_transformer",
            unet.get("use_linear_in_transformer"),
            config.unet.linear,
        ),
        ("ddconfig.z_channels", vae.get("z_channels"), config.vae.latent_channels),
        ("ddconfig.ch", vae.get("ch"), ch),
        ("ddconfig.ch_mult", _widths(vae, "ch_mult", ch), config.vae.channels),
        ("ddconfig.num_res_blocks", vae.get("num_res_blocks"), config.vae.blocks),
        ("preprocess_config.num_feat", restorer.get("num_feat"), config.restorer.features),
        ("preprocess_config.num_block", restorer.get("num_block"), config.restorer.blocks),
        ("preprocess_config.num_grow_ch", restorer.get("num_grow_ch"), config.restorer.growth),
        ("cond_stage_config.width", text.get("width"), config.text.width),
        ("cond_stage_config.layers", text.get("layers"), config.text.layers),
    ]
    for name, said, found in facts:
        if said is not None and said != found:
            raise CheckpointError(
                f"the configuration is of another model: {name} says {said}, "
                f"the checkpoint has {found}"
            )


def _params(params: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """The ``params`` of a section; of the whole model where the section is ''."""
    found = ((params.get(section) or {}).get("params") or {}) if section else params
    if not isinstance(found, dict):
        raise CheckpointError(f"{section}.params must be a mapping, got {found!r}")
    return found


def _widths(section: Mapping[str, Any], name: str, base: int) -> tuple[int, ...] | None:
    return tuple(round(base * m) for m in section[name]) if name in section else None


def _same(value: Any) -> Any:
    """The one value of a list of equal values, as LDM allows for each level; others as they are."""
    return value[0] if isinstance(value, list) and len(set(value)) == 1 else value


def _rising(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(sorted(values))


def _count(section: Mapping[str, Any], name: str) -> int | None:
    """A number of things; None where it is left out, null or -1, as LDM marks what is not set."""
    value = section.get(name)
    if value is None or value == -1:
        return None
    if type(value) is not int or value < 1:
        raise CheckpointError(
            f"{name} must be a whole number above 0 in the YAML file, got {value!r}"
        )
    return value


def _number(section: Mapping[str, Any], name: str, default: float) -> float:
    value = section.get(name, default)
    if type(value) not in (int, float) or not 0.0 < value < math.inf:
        raise CheckpointError(f"{name} must be a number above 0 in the YAML file, got {value!r}")
    return float(value)
