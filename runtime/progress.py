"""How far a long task is: share done and time left, as numbers and as text."""

import itertools
import math
import time
import unicodedata

_MOST_REPORTS = 4096


class PhaseProgress:
    """Share and time left of a task, estimated from the units done.

    The latest half of the reports sets the rate, because a first unit is often slower. Of many, every
    second one is dropped.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._reports = [(time.monotonic(), 0.0)]

    def advance(self, count: float) -> None:
        """Report that ``count`` more units are done."""
        self._reports.append((time.monotonic(), self._reports[-1][1] + count))
        if len(self._reports) >= _MOST_REPORTS:
            self._reports = [*self._reports[:-1:2], self._reports[-1]]

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._reports[0][0]

    @property
    def share(self) -> float | None:
        """The share done, 0 to 1; None where the total is unknown."""
        return min(self._reports[-1][1] / self._total, 1.0) if self._total else None

    @property
    def left(self) -> float | None:
        """The seconds left; None where unknown, or where the unit in progress is overdue."""
        reports = self._reports
        (then, before), (last, done) = reports[(len(reports) - 1) // 2], reports[-1]
        if not self._total or done <= before:
            return None
        left = (last - then) / (done - before) * (self._total - done)
        return max(left - (time.monotonic() - last), 0.0) or None


def status_text(label: str, share: float | None, left: float | None) -> str:
    """Return progress as the unfinished line of a terminal."""
    if share is None:
        return f"{label} ..."
    return f"{label}  {share:4.0%}" + ("" if left is None else f"  about {time_left(left)} left")


def log_text(label: str, done: PhaseProgress) -> str:
    """Return progress as a line of its own."""
    share = "" if done.share is None else f"{done.share:.0%} "
    left = "" if done.left is None else f", about {time_left(done.left)} left"
    return f"{label}: {share}after {time_left(done.elapsed)}{left}"


def time_left(seconds: float) -> str:
    """Round a duration up to 5 seconds or a minute: 40 s, 3 min or 2 h 5 min."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds / 5) * 5)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese, Japanese and Korean letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def cut(text: str, widest: int) -> str:
    """Return the start of a text that takes at most ``widest`` columns of a terminal."""
    ends = itertools.accumulate(map(columns, text))
    return text[: sum(end <= widest for end in ends)]
