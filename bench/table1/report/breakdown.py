"""Break down the time of an image by network."""

from dataclasses import dataclass

from ...rows.results import Row

OUTSIDE = "outside the networks"


@dataclass(frozen=True)
class Part:
    """The share of one network in an image; ``calls`` is 0 outside the networks."""

    name: str
    calls: int
    seconds: float
    """Seconds of all calls."""

    share: float
    """Share of the sum of all parts."""


def parts(row: Row) -> tuple[Part, ...]:
    """Return the timed networks of a row in the order of the system, then the loop."""
    found = [
        (stage.name, stage.calls, stage.calls * stage.seconds)
        for stage in row.stages
        if stage.seconds is not None
    ]
    if row.loop_s:
        found.append((OUTSIDE, 0, row.loop_s))
    total = sum(seconds for _, _, seconds in found)
    return tuple(
        Part(name, calls, seconds, seconds / total if total else 0.0)
        for name, calls, seconds in found
    )
