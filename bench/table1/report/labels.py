"""Place labels next to circles without overlaps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ANGLES = tuple(math.radians(angle) for angle in sorted(range(0, 360, 15), key=lambda a: a % 90))
_GAPS = (3.0, 10.0, 20.0, 32.0, 46.0, 62.0, 80.0, 100.0)
_SWEEPS = 4
_CLEAR = 14.0
"""A label closer than this to another circle may seem to belong to it."""

_CROSSED = 60.0
"""Cost of a line that crosses another circle, as a distance."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle in any unit."""

    left: float
    bottom: float
    right: float
    top: float

    @staticmethod
    def around(x: float, y: float, width: float, height: float) -> "Box":
        """Return a rectangle of this size with its centre at (x, y)."""
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def overlap(self, other: "Box") -> float:
        """Return the shared area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Return the point of the rectangle nearest to (x, y)."""
        return min(max(x, self.left), self.right), min(max(y, self.bottom), self.top)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True)
class Circle:
    """A mark, and the size of its label."""

    x: float
    y: float
    radius: float
    width: float
    height: float

    @property
    def square(self) -> Box:
        """The square that labels must not overlap; it excludes the corners outside the circle."""
        return Box.around(self.x, self.y, 1.8 * self.radius, 1.8 * self.radius)

    def distance(self, box: Box) -> float:
        """Return the distance from the edge to the nearest point of a box; negative inside."""
        x, y = box.nearest(self.x, self.y)
        return math.hypot(x - self.x, y - self.y) - self.radius

    def is_between(self, other: "Circle", box: Box) -> bool:
        """Return whether the line from another circle's centre to its label crosses this circle."""
        x, y = box.nearest(other.x, other.y)
        across, up = x - other.x, y - other.y
        length = across**2 + up**2
        along = ((self.x - other.x) * across + (self.y - other.y) * up) / length if length else 0.0
        along = min(max(along, 0.0), 1.0)
        beside = math.hypot(other.x + along * across - self.x, other.y + along * up - self.y)
        return beside < self.radius


def place(circles: Sequence[Circle], inside: Box, taken: Sequence[Box] = ()) -> list[Box]:
    """Return a box for each label, near its circle and without overlaps where possible.

    Coordinate descent: each label in turn takes its best place given the others, a few times.
    """
    placed: list[Box | None] = [None] * len(circles)
    for _ in range(_SWEEPS):
        before = list(placed)
        for i, circle in enumerate(circles):
            labels = [box for j, box in enumerate(placed) if box is not None and j != i]
            placed[i] = _best(circle, circles, [*labels, *taken], inside)
        if placed == before:
            break
    return [box for box in placed if box is not None]


def _best(circle: Circle, circles: Sequence[Circle], taken: Sequence[Box], inside: Box) -> Box:
    """Return the box with the least overlap, then the least distance and ambiguity."""
    blocked = [*taken, *(c.square for c in circles)]
    others = [c for c in circles if c is not circle]
    best, least = None, (math.inf, math.inf)
    for gap in _GAPS:
        if least <= (0.0, gap):  # larger gaps cannot be better
            break
        for box in _around(circle, gap):
            hidden = box.area - box.overlap(inside) + sum(box.overlap(b) for b in blocked)
            cost = (round(hidden, 6), gap + _doubt(circle, box, others))
            if cost < least:
                best, least = box, cost
    assert best is not None
    return best


def _doubt(circle: Circle, box: Box, others: Sequence[Circle]) -> float:
    """Return a cost for labels that may seem to belong to another circle."""
    near = sum(max(0.0, _CLEAR - other.distance(box)) for other in others)
    return near + _CROSSED * sum(other.is_between(circle, box) for other in others)


def _around(circle: Circle, gap: float) -> Iterator[Box]:
    """Yield boxes at a gap from the edge: right, above, left and below before diagonals."""
    for angle in _ANGLES:
        across, up = math.cos(angle), math.sin(angle)
        x = circle.x + across * (circle.radius + gap + circle.width / 2)
        y = circle.y + up * (circle.radius + gap + circle.height / 2)
        yield Box.around(x, y, circle.width, circle.height)
