"""``--best MEASURE``: which of several results of an image is the best."""

from collections.abc import Callable
from dataclasses import dataclass

from ..tensors import Array
from .agreement import agreement
from .iqa import MeasureError, open_metric

AGREEMENT = "agreement"


@dataclass(frozen=True)
class Measure:
    """Scores a result (4h, 4w, 3) of an input (h, w, 3); both are uint8 or uint16 sRGB."""

    name: str
    score: Callable[[Array, Array], float]
    lower_better: bool = False

    def is_better(self, score: float, other: float) -> bool:
        """Return whether a score is better than another one."""
        return score < other if self.lower_better else score > other


def open_measure(name: str) -> Measure:
    """Return ``agreement`` or a no-reference metric of pyiqa; raise MeasureError for any other name."""
    if name == AGREEMENT:
        return Measure(name, agreement)
    try:
        metric = open_metric(name)
    except MeasureError as error:
        raise MeasureError(f"{error}; {AGREEMENT} needs nothing") from error
    if metric.needs_original:
        raise MeasureError(
            f"'{name}' compares an image with its original, which there is none of; give {AGREEMENT} "
            "or a no-reference metric, such as musiq"
        )
    return Measure(name, lambda image, _: metric(image), metric.lower_better)
