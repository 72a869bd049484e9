"""Degrade sharp originals, upscale them with a bundle, and score the results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

from ...export.demo_training.degrade import Degradation
from ...runtime.pipeline import Pipeline
from ...runtime.seeds.iqa import MeasureError, Metric
from ...runtime.tensors import SCALE
from ...solvers import NoiseLevels, Schedule, shifted_schedule
from ..metrics import Pixels, Scores, score


@dataclass(frozen=True)
class Setting:
    """A setting of the sampler."""

    order: int
    steps: int
    t1: int | None = None
    """Start time of sampling, exactly as in Eq. 4; None for the released schedule (T/2)."""

    detail: float = 1.0
    """Share of the networks' detail; the rest is the restorer's."""

    def schedule(self, levels: NoiseLevels) -> Schedule | None:
        """Return the schedule from ``t1``, None for the released one; raise ValueError for too many steps."""
        return shifted_schedule(self.steps, self.t1, levels) if self.t1 else None


@dataclass(frozen=True)
class Entry:
    """Mean scores of one method over all images."""

    method: str
    """``bicubic``, ``restorer`` or ``pipeline``."""

    setting: Setting | None
    scores: Scores
    images: Mapping[str, Scores]


def measure(
    pipeline: Pipeline,
    originals: Mapping[str, Pixels],
    settings: Sequence[Setting],
    seed: int,
    advance: Callable[[int], None],
    metrics: Sequence[Metric] = (),
) -> list[Entry]:
    """Degrade every original with its own seed, upscale it and score the result, also by ``metrics``.

    Calls ``advance`` after each image. Raises MeasureError, with the image and the method, where a metric
    gives no score.
    """
    found: dict[tuple[str, Setting | None], dict[str, Scores]] = {}
    for number, (name, hr) in enumerate(originals.items()):
        for method, setting, pixels in _images(pipeline, degrade(hr, seed, number), settings, seed):
            try:
                scores = score(pixels, hr, metrics)
            except MeasureError as error:
                raise MeasureError(f"{name}, {method}: {error}") from error
            found.setdefault((method, setting), {})[name] = scores
            advance(1)
    return [
        Entry(method, setting, _mean(list(rows.values())), rows)
        for (method, setting), rows in found.items()
    ]


def degrade(hr: Pixels, seed: int, number: int) -> Pixels:
    """Return the LR version of image ``number``: blur, reduction by four, noise, JPEG."""
    return Degradation()(hr, np.random.default_rng([seed, number]))


def upscale(pipeline: Pipeline, lr: Pixels, setting: Setting, seed: int) -> tuple[Pixels, Pixels]:
    """Return the restorer's image and the pipeline's."""
    seen: dict[str, Any] = {}

    def observe(name: str, array: Any) -> None:
        if name == "restored":
            seen[name] = np.array(array)

    hr = pipeline.upscale(
        lr,
        steps=setting.steps,
        order=setting.order,
        seed=seed,
        schedule=setting.schedule(pipeline.manifest.schedule),
        detail=setting.detail,
        observe=observe,
    )
    restored = seen["restored"][0].transpose(1, 2, 0)[: hr.shape[0], : hr.shape[1]]
    return np.rint(restored * 255.0).astype(np.uint8), hr


def bicubic(lr: Pixels) -> Pixels:
    """Upscale with Pillow's bicubic filter."""
    size = (lr.shape[1] * SCALE, lr.shape[0] * SCALE)
    return np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))


def _images(
    pipeline: Pipeline, lr: Pixels, settings: Sequence[Setting], seed: int
) -> Iterator[tuple[str, Setting | None, Pixels]]:
    yield "bicubic", None, bicubic(lr)
    for number, setting in enumerate(settings):
        restored, hr = upscale(pipeline, lr, setting, seed)
        if number == 0:
            yield "restorer", None, restored
        yield "pipeline", setting, hr


def _mean(rows: Sequence[Scores]) -> Scores:
    means: dict[str, Any] = {}
    for name in [field.name for field in fields(Scores) if field.name != "metrics"]:
        values = [getattr(row, name) for row in rows]
        means[name] = None if None in values else float(np.mean(values))
    by_pyiqa = {name: float(np.mean([r.metrics[name] for r in rows])) for name in rows[0].metrics}
    return Scores(**means, metrics=by_pyiqa)
