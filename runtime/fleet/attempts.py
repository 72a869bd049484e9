"""How often images and workers were begun, so that what kills its worker is given up and not repeated."""

from collections.abc import Sequence
from typing import Any

import ray

MOST = 2
"""Times that an image, or a worker, is begun: once, and once more after the worker died."""

_LAST = 5.0  # seconds that the end of a run waits for

Key = int | str
"""The number of an image, or the name of a worker that opens its networks."""

State = int | str
"""Of an image: how often it was begun; once that is over, why it failed, or an empty text."""


class Attempts:
    """One for a run. Counts what is in work only: images whose result arrived are forgotten."""

    def __init__(self) -> None:
        self._begun: dict[Key, int] = {}
        self._ended: dict[Key, str] = {}

    def begin(self, key: Key) -> int:
        """Count an image or a worker as begun once more; return how often it was."""
        self._begun[key] = self._begun.get(key, 0) + 1
        return self._begun[key]

    def end(self, number: int, failure: str) -> None:
        """Note why an image failed, or nothing, in case that its worker dies before it can tell."""
        self._ended[number] = failure

    def begun(self, numbers: list[int]) -> dict[int, State]:
        """Return the states of images, of those that were begun."""
        states: dict[Key, State] = {**self._begun, **self._ended}
        return {number: states[number] for number in numbers if number in states}

    def forget(self, keys: Sequence[Key]) -> None:
        """Drop images whose result arrived, and workers that are open."""
        for key in keys:
            self._begun.pop(key, None)
            self._ended.pop(key, None)


def new_attempts() -> Any:
    """Start the count of a run; return its handle."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()


def end_attempts(attempts: Any) -> None:
    """End the count of a run, after what was sent to it has arrived."""
    ray.wait([attempts.forget.remote([])], timeout=_LAST)
    ray.kill(attempts)


def begin(attempts: Any, key: Key) -> int:
    """Count an image or a worker as begun, on the cluster; return how often it was."""
    return int(ray.get(attempts.begin.remote(key)))


def end(attempts: Any, number: int, failure: str) -> None:
    """Note why an image failed, or nothing."""
    ray.get(attempts.end.remote(number, failure))


def begun(attempts: Any, numbers: list[int]) -> dict[int, State]:
    """Return the states of images that were begun, by workers that died."""
    return dict(ray.get(attempts.begun.remote(numbers)))
