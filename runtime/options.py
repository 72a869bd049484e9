"""Options of sampling and tiling, checked before any network is loaded."""

from dataclasses import dataclass

from ..solvers import NoiseLevels, Schedule, released_schedule, shifted_schedule
from ..solvers.schedule import SHIFT_STEPS
from .bundle import Manifest
from .images.color import COLOR_FIXES

TILE = 128
"""Default side of a tile: the image size that the released model was trained on."""

STARTS = (333, SHIFT_STEPS, 667, 1000)
"""Starting points: T/3, T/2, 2T/3 and T, the paper's t1 of Table 2."""

MAX_STEPS = max(STARTS) - 1
"""The largest number of steps, with the last of STARTS; with another, that start minus 1."""

_LEAST = 4  # the smallest tile in size multiples, for bundles where that is below TILE


@dataclass(frozen=True)
class Tiling:
    """How large images are cut; an image that fits one tile stays whole.

    Each network runs on one tile after the other, and memory grows with the image's area instead of
    its square.
    """

    tile: int = TILE
    """Side of a tile in LR pixels, a multiple of the bundle's size multiple; 0: no tiles."""

    overlap: int | None = None
    """Overlap of the denoiser's tiles in LR pixels, a multiple of the size multiple; None: half a
    tile. Their predictions are blended at every step (Mixture of Diffusers, Barbero Jimenez 2023)."""

    batch: int = 1
    """Number of tiles in one call of the denoiser."""

    def check(self, multiple: int) -> None:
        """Raise ValueError if a bundle of this size multiple does not support these tiles."""
        least = min(_LEAST * multiple, TILE)
        if self.tile and (self.tile < least or self.tile % multiple):
            raise ValueError(
                f"tile must be 0 or a multiple of {multiple} from {least} on, got {self.tile}"
            )
        overlap = self.overlap or 0
        if overlap % multiple or not 0 <= overlap < max(self.tile, 1):
            raise ValueError(
                f"overlap must be a multiple of {multiple} below the tile's {self.tile}, got {overlap}"
            )
        if self.batch < 1:
            raise ValueError(f"batch must be 1 or more, got {self.batch}")


@dataclass(frozen=True)
class SamplingOptions:
    """How an image is sampled. Raises ValueError for a value out of range."""

    steps: int = 5
    """Network evaluations, 1 to ``start`` - 1."""

    order: int = 3
    """Order of the solver: 1, 2 or 3."""

    seed: int = 42
    """Seed of the noise, 0 or more."""

    color_fix: str = "wavelet"
    """A name in COLOR_FIXES."""

    tiling: Tiling = Tiling()

    schedule: Schedule | None = None
    """Replaces the schedule of ``start``; must have ``steps`` steps."""

    start: int = SHIFT_STEPS
    """Noise that sampling starts from, one of STARTS: below the released 500 the result stays closer
    to the restored image, above it more is invented. The network is trained for 500."""

    detail: float = 1.0
    """Share of the networks' detail in the result, 0 to 1; the rest is the restored image's.

    It blends the high frequencies of the wavelet colour fix and leaves the low ones alone."""

    def __post_init__(self) -> None:
        self._check_schedule()
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, got {self.order}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.color_fix not in COLOR_FIXES:
            raise ValueError(f"color_fix must be {', '.join(COLOR_FIXES)}, got '{self.color_fix}'")

        if not 0.0 <= self.detail <= 1.0:
            raise ValueError(f"detail must be between 0 and 1, got {self.detail}")

    def _check_schedule(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start must be {', '.join(map(str, STARTS))}, got {self.start}")
        if self.schedule is None:
            if not 1 <= self.steps < self.start:
                raise ValueError(
                    f"steps must be between 1 and {self.start - 1} with start {self.start}, "
                    f"got {self.steps}"
                )
        elif self.start != SHIFT_STEPS:
            raise ValueError("a schedule has a start of its own; give schedule or start, not both")
        elif self.schedule.steps != self.steps:
            raise ValueError(
                f"the schedule must have {self.steps} steps, got {self.schedule.steps}"
            )

    def check(self, manifest: Manifest) -> None:
        """Raise ValueError if this bundle does not support these options."""
        self.tiling.check(manifest.size_multiple)
        if self.start > max(manifest.schedule.timesteps, SHIFT_STEPS):
            raise ValueError(
                f"start must be at most this bundle's {manifest.schedule.timesteps} network times, "
                f"got {self.start}"
            )

    def sampled_schedule(self, levels: NoiseLevels) -> Schedule:
        """Return the levels at the time points that are sampled, for a bundle's noise levels."""
        if self.schedule is not None:
            return self.schedule
        if self.start == SHIFT_STEPS:
            return released_schedule(self.steps, levels)
        return shifted_schedule(self.steps, self.start, levels)
