"""What a client may send with an image: one optional input for each option of ``dossr-run`` that it may set."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..images.alpha import parse_color
from ..images.formats import WRITABLE, writable
from ..images.sizes import TargetSize, parse_fit
from ..images.source import WriteOptions
from ..options import SamplingOptions, Tiling
from .settings import ServiceSettings

Kind = Literal["integer", "real", "text", "switch"]


@dataclass(frozen=True)
class Input:
    """An optional input of one element."""

    name: str
    kind: Kind
    of_file: bool = False
    """Whether it concerns files only, not raw arrays."""


INPUTS = (
    Input("steps", "integer"),
    Input("order", "integer"),
    Input("seed", "integer"),
    Input("start", "integer"),
    Input("detail", "real"),
    Input("color_fix", "text"),
    Input("scale", "real", of_file=True),
    Input("longest", "integer", of_file=True),
    Input("shortest", "integer", of_file=True),
    Input("width", "integer", of_file=True),
    Input("height", "integer", of_file=True),
    Input("fit", "text", of_file=True),
    Input("format", "text", of_file=True),
    Input("quality", "integer", of_file=True),
    Input("depth", "text", of_file=True),
    Input("background", "text", of_file=True),
    Input("profile", "text", of_file=True),
    Input("strip", "switch", of_file=True),
    Input("first_frame", "switch", of_file=True),
)
"""Named as the options of ``dossr-run``, with their meaning and their defaults. None is a path."""

_SIZES = ("scale", "longest", "shortest", "width", "height", "fit")
_SAMPLING = ("steps", "order", "seed", "color_fix", "start", "detail")
_WORDS = {"depth": ("auto", "8", "16"), "profile": ("keep", "srgb")}

Asked = Mapping[str, Any]
"""Values by the name of their input; what is not given has its default."""


def check_names(asked: Asked, *, is_file: bool) -> None:
    """Raise ValueError for inputs that are not for what was sent."""
    unfit = [each.name for each in INPUTS if each.of_file and not is_file and each.name in asked]
    if unfit:
        raise ValueError(f"{unfit[0]} is for image files; send no {unfit[0]} with raw pixels")


def sampling_options(asked: Asked, settings: ServiceSettings, tiling: Tiling) -> SamplingOptions:
    """Return how an image is sampled. Raise ValueError for a value out of range."""
    values = {name: asked[name] for name in _SAMPLING if name in asked}
    options = SamplingOptions(**values, tiling=tiling)
    if options.steps > settings.max_steps:
        raise ValueError(
            f"steps must be at most this server's {settings.max_steps}, got {options.steps}"
        )
    return options


def target_size(asked: Asked) -> TargetSize:
    """Return the size of the result. Raise ValueError for a value out of range, or for two sizes."""
    values = {name: asked[name] for name in _SIZES if name in asked}
    if "fit" in values:
        values["fit"] = parse_fit(values["fit"])
    return TargetSize(**values)


def write_options(asked: Asked) -> WriteOptions:
    """Return how the result is written, with its format. Raise ValueError or ImageError."""
    suffix = f".{asked.get('format', 'png').lower().removeprefix('.')}"
    if suffix not in WRITABLE:
        known = ", ".join(name[1:] for name in WRITABLE)
        raise ValueError(f"format must be one of {known}, got '{asked['format']}'")
    writable(suffix)
    for name, words in _WORDS.items():
        if asked.get(name, words[0]) not in words:
            raise ValueError(f"{name} must be {', '.join(words)}, got '{asked[name]}'")
    quality = asked.get("quality")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    return WriteOptions(
        suffix,
        quality,
        asked.get("depth", "auto"),
        _background(asked),
        bool(asked.get("strip", False)),
        asked.get("profile", "keep"),
    )


def as_inputs(message: str) -> str:
    """Return a message about options of ``dossr-run`` with the names of the inputs."""
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda found: found[1].replace("-", "_"), message)


def _background(asked: Asked) -> tuple[int, int, int] | None:
    if "background" not in asked:
        return None
    try:
        return parse_color(asked["background"])
    except ValueError as error:
        raise ValueError(f"background {error}") from error
