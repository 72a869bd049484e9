"""Where the time of an image goes."""

from dataclasses import dataclass

from ..results import Row

OUTSIDE = "outside the networks"


@dataclass(frozen=True)
class Part:
    """One network's part of an image; ``calls`` is 0 outside the networks."""

    name: str
    calls: int
    seconds: float
    """Of all calls."""

    share: float
    """Of the sum of all parts."""


def parts(row: Row) -> tuple[Part, ...]:
    """The timed networks of a row in the order they were stated, then the loop."""
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
