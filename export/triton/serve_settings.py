"""Options of a model repository, and their spelling on the command line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields

from ...runtime.bundle import Manifest, Target
from ...runtime.engines.tensorrt.library import LIBRARIES
from ...runtime.options import TILE, Tiling
from ...runtime.serving.settings import (
    PATTERNS,
    SETTINGS,
    Patterns,
    ServiceSettings,
    parse_values,
)

_OWN: Patterns = {
    "name": (r"[A-Za-z0-9][\w.-]*", str),
    "instances": (r"[1-9]\d*", int),
    "queue": (r"\d+", int),
    "timeout": (r"\d+(?:\.\d+)?", float),
}
SERVE_SETTINGS = (*SETTINGS, "name=MODEL", "instances=N", "queue=N", "timeout=SECONDS")
"""The settings that ``parse_serve`` accepts."""


@dataclass(frozen=True)
class RepositoryOptions:
    """How a bundle is served."""

    service: ServiceSettings = field(default_factory=ServiceSettings)
    name: str = "dossr"
    """Of the model: its folder, and what clients ask for."""

    instances: int = 1
    """Processes that serve requests side by side, for each GPU, or in all on processors. Each holds the
    networks once."""

    queue: int = 64
    """Requests that may wait; more are refused at once. 0: any number."""

    timeout: float = 600.0
    """Seconds after which a request that still waits is refused; 0: never. With ``queue`` 0 too, requests
    go past Triton's batcher, which otherwise may delay one by half a second."""

    @property
    def warm_side(self) -> int:
        """The side of the image that an instance upscales before it is ready, in LR pixels."""
        return self.service.tile or TILE

    def check_targets(self, targets: Sequence[Target]) -> None:
        """Raise ValueError if a bundle has no graphs for the device."""
        device = self.service.device.partition(":")[0]
        wanted = "tensorrt" if device in LIBRARIES else device
        if not any(target.startswith(wanted) for target in targets):
            raise ValueError(
                f"device={self.service.device} needs graphs for {wanted}, and the bundle has them for "
                f"{', '.join(targets)}"
            )

    def check(self, manifest: Manifest) -> None:
        """Raise ValueError if a bundle does not support the device or the tiles."""
        self.check_targets(manifest.targets)
        tile = TILE if self.service.tile is None else self.service.tile
        Tiling(tile, self.service.overlap, self.service.batch).check(manifest.size_multiple)


def parse_serve(texts: Iterable[str]) -> RepositoryOptions:
    """Parse settings such as ``device=cuda`` or ``instances=2``.

    Raise ValueError for an unknown or malformed setting.
    """
    values = parse_values(texts, {**PATTERNS, **_OWN}, SERVE_SETTINGS)
    own = {each.name for each in fields(ServiceSettings)}
    service = ServiceSettings(**{name: value for name, value in values.items() if name in own})
    rest = {name: value for name, value in values.items() if name not in own}
    return RepositoryOptions(service, **rest)
