"""What the operator of a server decides for all its requests."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..engines.device import DEVICES
from ..engines.tensorrt.library import LIBRARIES
from ..tensors import MAX_PIXELS

_COUNT = r"[1-9]\d*"


@dataclass(frozen=True)
class ServiceSettings:
    """How requests are served. The spelling of each field is in SETTINGS."""

    device: str = "cpu"
    """One of DEVICES: what runs the networks."""

    precision: str = "auto"
    """Of the networks: auto, fp32, bf16 or int8, or several words with commas, such as bf16,decoder=fp32."""

    tile: int | None = None
    """Side of the tiles in LR pixels, 0: no tiles; None: what fits the memory, and less where it runs out."""

    overlap: int | None = None
    """Overlap of the denoiser's tiles in LR pixels; None: half a tile."""

    batch: int = 1
    """Number of tiles in one call of the denoiser."""

    threads: int | None = None
    """Of the networks of each instance on a processor; None: the cores, shared among the instances."""

    max_pixels: int = MAX_PIXELS
    """Largest input, in pixels of all its frames."""

    max_steps: int = 50
    """Largest number of steps that a client may ask for."""

    @property
    def is_on_gpu(self) -> bool:
        """Whether the networks run on NVIDIA's GPUs."""
        return self.device in ("cuda", *LIBRARIES)

    def as_parameters(self) -> dict[str, str]:
        """Return the fields that are set, as text."""
        return {name: str(value) for name, value in asdict(self).items() if value is not None}


Patterns = Mapping[str, tuple[str, Callable[[str], Any]]]
"""For each field its spelling, a regular expression, and how it is read."""

PATTERNS: Patterns = {
    "device": ("|".join(DEVICES), str),
    "precision": (r"[\w=,]+", str),
    "tile": (r"auto|\d+", lambda text: None if text == "auto" else int(text)),
    "overlap": (r"\d+", int),
    "batch": (_COUNT, int),
    "threads": (_COUNT, int),
    "max_pixels": (_COUNT, int),
    "max_steps": (_COUNT, int),
}
SETTINGS = ("device=NAME", "precision=PRECISION", "tile=auto|N", "overlap=N", "batch=N", "threads=N", "max_pixels=N",
            "max_steps=N")  # fmt: skip


def parse_values(
    texts: Iterable[str], patterns: Patterns, spelled: Iterable[str]
) -> dict[str, Any]:
    """Return the values of settings such as ``batch=4``, by name.

    Raise ValueError for one that is unknown, malformed or given twice; the message lists ``spelled``.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        pattern, read = patterns.get(name, ("", str))
        if not pattern or not re.fullmatch(pattern, value):
            raise ValueError(f"a setting must be {', '.join(spelled)}; got '{text}'")
        if name in values:
            raise ValueError(f"each setting can be given once, got {name} twice")
        values[name] = read(value)
    return values


def read_parameters(parameters: Mapping[str, str]) -> ServiceSettings:
    """Return the settings that ``as_parameters`` wrote, perhaps edited. Raise ValueError."""
    texts = [f"{name}={value}" for name, value in parameters.items()]
    return ServiceSettings(**parse_values(texts, PATTERNS, SETTINGS))
