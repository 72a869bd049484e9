"""Scores every row on every image; a stopped run goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image

from ...runtime.files import write_whole
from ..accuracy.measuring import bicubic, degrade
from ..folders import save_png
from ..metrics import Pixels, Scores, luma, score
from .rows import Row
from .variant import Variant, pixels

REFERENCES = ("bicubic", "restorer")
"""Methods without a denoiser, above the rows."""


@dataclass(frozen=True, kw_only=True)
class Judged(Scores):
    """Scores of one image, with a measure that tells detail from grain."""

    edges: float
    """Correlation of the forward differences of luma with the original's: 1 has every edge in place.

    Grain raises ``detail`` and lowers this.
    """


def judge(image: Pixels, original: Pixels) -> Judged:
    """Compute all scores of one image."""
    a, b = (
        np.concatenate([np.diff(plane, axis=axis).ravel() for axis in (0, 1)])
        for plane in (luma(image), luma(original))
    )
    return Judged(**asdict(score(image, original)), edges=float(np.corrcoef(a, b)[0, 1]))


@dataclass(frozen=True)
class Entry:
    """The scores of one method on one image."""

    method: str
    """One of REFERENCES, or a row's system."""

    image: str
    key: str
    """Hash of all that the scores depend on: sources, weights, seed, original, LR image."""

    scores: Judged


class Results:
    """What was scored, in ``objectives.json`` and, as images, below ``images/``."""

    def __init__(self, out: Path, sources: str) -> None:
        """Read what an earlier run left in ``out``; ``sources`` is the hash of the code that scores."""
        self.out, self.sources, self._path = out, sources, out / "objectives.json"
        kept = json.loads(self._path.read_bytes())["entries"] if self._path.is_file() else []
        self.entries = [Entry(**{**each, "scores": Judged(**each["scores"])}) for each in kept]

    def has(self, method: str, image: str, key: str) -> bool:
        """Return whether these scores are known and their image is there."""
        known = any((e.method, e.image, e.key) == (method, image, key) for e in self.entries)
        return known and self.file(method, image).is_file()

    def add(self, entry: Entry, pixels: Pixels) -> None:
        """Write an image and its scores."""
        save_png(Image.fromarray(pixels), self.file(entry.method, entry.image))
        same = (entry.method, entry.image)
        self.entries = [e for e in self.entries if (e.method, e.image) != same] + [entry]
        self.write({})

    def keep(self, methods: Iterable[str], images: Iterable[str]) -> None:
        """Drop the scores of other methods and other images, which an earlier run left."""
        wanted = {*product(methods, images)}
        self.entries = [e for e in self.entries if (e.method, e.image) in wanted]

    def write(self, more: Mapping[str, object]) -> None:
        """Write ``objectives.json``, with more fields before the entries."""
        document = {**more, "entries": [asdict(entry) for entry in self.entries]}
        write_whole(self._path, f"{json.dumps(document, indent=1)}\n".encode())

    def file(self, method: str, image: str) -> Path:
        """Return the place of an image."""
        return self.out / "images" / image / f"{method}.png"

    def mean(self, method: str, images: Iterable[str]) -> Judged:
        """Return a method's mean scores over images; nothing is scored by pyiqa here."""
        chosen = set(images)
        found = [e.scores for e in self.entries if e.method == method and e.image in chosen]
        means = {}
        for name in {field.name for field in fields(Judged)} - {"metrics"}:
            values = [getattr(scores, name) for scores in found]
            means[name] = None if None in values else float(np.mean(values))
        return Judged(**means)  # type: ignore[arg-type]


def score_variant(
    variant: Variant,
    rows: Sequence[Row],
    originals: Mapping[str, Pixels],
    seed: int,
    results: Results,
    advance: Callable[[int], None],
) -> None:
    """Score the rows of one variant, and the references, on every image. Advance by one for each."""
    for number, (name, hr) in enumerate(originals.items()):
        lr = degrade(hr, seed, number)
        for method, weights, make in _methods(variant, rows, lr, seed):
            key = _key(f"{results.sources} {weights} {seed}", hr, lr)
            if not results.has(method, name, key):
                made = make()
                results.add(Entry(method, name, key, judge(made, hr)), made)
            advance(1)


def _methods(
    variant: Variant, rows: Sequence[Row], lr: Pixels, seed: int
) -> Iterator[tuple[str, str, Callable[[], Pixels]]]:
    """Yield each method's name, the hash of its weights, and the function that runs it."""
    encoded = cache(lambda: variant.encode(lr))
    yield "bicubic", "", lambda: bicubic(lr)
    yield "restorer", variant.common, lambda: pixels(encoded().restored, encoded())
    for row in rows:
        sample = row.sample(variant.config.levels)
        yield row.system, variant.sha256, lambda s=sample: variant.sample(encoded(), s, seed)  # type: ignore[misc]


def _key(text: str, *images: Pixels) -> str:
    digest = hashlib.sha256(text.encode())
    for image in images:
        digest.update(f" {image.shape} ".encode() + image.tobytes())
    return digest.hexdigest()[:16]
