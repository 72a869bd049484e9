"""What is asked of several seeds, and the names of the files that come of it."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..tensors import SCALE

MOST_SEEDS = 10_000
"""Draws of an image in one run; the sums of ``Statistics`` hold more."""

MOST_SHOWN = 1000
"""Draws that a contact sheet holds."""

MARK = re.compile(r"\.(seed\d+|mean|sheet|spread)$")
"""What the names of these files have before their suffix, apart from the best draw's."""


@dataclass(frozen=True)
class SeedsRequest:
    """Several draws of each image."""

    first: int
    count: int
    best: str | None = None
    """Write the best draw by this measure only; None: write all."""

    sheet: bool = False
    mean: bool = False
    spread: bool = False

    @property
    def seeds(self) -> range:
        """The seeds, in order."""
        return range(self.first, self.first + self.count)

    @property
    def has_statistics(self) -> bool:
        """Whether the mean or the spread is asked for."""
        return self.mean or self.spread

    def files(self, target: Path) -> tuple[Path, ...]:
        """Return all files for an image whose single result would be ``target``."""
        results = [target] if self.best else [self.draw(target, seed) for seed in self.seeds]
        also = {"mean": self.mean, "sheet": self.sheet, "spread": self.spread}
        return (*results, *(self.also(target, what) for what, asked in also.items() if asked))

    def draw(self, target: Path, seed: int) -> Path:
        """Return the file of one draw, such as photo.seed42.png."""
        return _marked(target, f"seed{seed}", target.suffix)

    def also(self, target: Path, what: str) -> Path:
        """Return the file of the mean, in the format of the results, or of the sheet or spread (PNG)."""
        return _marked(target, what, target.suffix if what == "mean" else ".png")

    def memory(self, height: int, width: int, depth: int) -> int:
        """Return what is held besides one draw, in bytes, for an LR image: the sums, the best draw."""
        sample = depth // 8
        values = 2 * 4 * sample * self.has_statistics + sample * (self.best is not None)
        return height * width * SCALE**2 * 3 * values


def _marked(target: Path, mark: str, suffix: str) -> Path:
    return target.with_name(f"{target.name.removesuffix(target.suffix)}.{mark}{suffix}")
