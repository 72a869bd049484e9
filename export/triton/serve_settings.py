"""Options of a model repository, and their spelling on the command line."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from ...runtime.bundle import CONDITION, REQUIRED_STAGES, Manifest, Target
from ...runtime.engines.device import check_options
from ...runtime.engines.precision import PrecisionOptions, parse_precision
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
_TARGETS: Mapping[str, tuple[Target, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt-10.3"),
    "tensorrt-rtx": ("tensorrt",),
}
"""Whose graphs a device runs, where they are not those of its own name."""

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

    @property
    def _precision(self) -> PrecisionOptions:
        return parse_precision(self.service.precision.split(","))

    @property
    def _tiling(self) -> Tiling:
        tile = TILE if self.service.tile is None else self.service.tile
        return Tiling(tile, self.service.overlap, self.service.batch)

    def _check_device(self, targets: Sequence[Target]) -> None:
        """Raise ValueError if a device does not have the precision, or a bundle no graphs for the device."""
        check_options(self.service.device, None, None, self._precision)
        device = self.service.device.partition(":")[0]
        wanted = _TARGETS.get(device, (device,))
        if not set(wanted) & set(targets):
            raise ValueError(
                f"device={self.service.device} needs graphs for {' or '.join(wanted)}, and the bundle has "
                f"them for {', '.join(targets)}"
            )

    def check_export(self, targets: Sequence[Target], *, int8: bool) -> None:
        """Raise ValueError for what no bundle with these targets has, or int8 where an export does not add it.

        What depends on the size multiple is left to ``check``.
        """
        self._check_device(targets)
        tile, overlap = self._tiling.tile, self._tiling.overlap or 0
        if overlap >= max(tile, 1):
            raise ValueError(f"overlap must be below the tile's {tile}, got {overlap}")
        asked = self._precision
        asked.check((*REQUIRED_STAGES, CONDITION))
        if not int8 and "int8" in (asked.default, *asked.stages.values()):
            raise ValueError(
                f"precision={self.service.precision} needs int8 networks; pass --int8, too"
            )

    def check(self, manifest: Manifest, *, int8: bool = False) -> None:
        """Raise ValueError if a bundle does not support the device, the precision or the tiles.

        ``int8``: whether the 8-bit networks are still to be added.
        """
        self._check_device(manifest.targets)
        self._precision.check(manifest.stages)
        if not int8:
            self._check_int8(manifest)
        self._tiling.check(manifest.size_multiple)

    def _check_int8(self, manifest: Manifest) -> None:
        """Raise ValueError for a stage that a bundle does not have in int8."""
        asked, stages = self._precision, manifest.stages
        wanted = [name for name in stages if asked.of(name) == "int8"]
        missing = [name for name in wanted if not stages[name].int8]
        named = [name for name in missing if name in asked.stages]
        if named or (wanted and missing == wanted):
            raise ValueError(
                f"precision={self.service.precision} needs an int8 network for "
                f"{' and '.join(named) or 'a stage'}, and the bundle has none; add what can be had with --int8"
            )


def parse_serve(texts: Iterable[str]) -> RepositoryOptions:
    """Parse settings such as ``device=cuda`` or ``instances=2``.

    Raise ValueError for an unknown or malformed setting.
    """
    values = parse_values(texts, {**PATTERNS, **_OWN}, SERVE_SETTINGS)
    own = {each.name for each in fields(ServiceSettings)}
    service = ServiceSettings(**{name: value for name, value in values.items() if name in own})
    rest = {name: value for name, value in values.items() if name not in own}
    options = RepositoryOptions(service, **rest)
    least = options.warm_side**2
    if service.max_pixels < least:
        raise ValueError(
            f"max_pixels must be at least {least}, a tile, which each instance upscales before it is ready; "
            f"got {service.max_pixels}"
        )
    return options
