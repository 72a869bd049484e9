"""How often each image was begun, so that one that kills its worker is given up and not repeated."""

from typing import Any

import ray

MOST = 2
"""Times that an image is begun: once, and once more after its worker died."""


_LAST = 5.0  # seconds that the end of a run waits for

State = int | str
"""Of an image: how often it was begun; once that is over, why it failed, or an empty text."""


class Attempts:
    """One for a run. Counts the images in work only: those whose result arrived are forgotten."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}
        self._ended: dict[int, str] = {}

    def begin(self, number: int) -> int:
        """Count an image as begun once more; return how often it was."""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]

    def end(self, number: int, failure: str) -> None:
        """Note why an image failed, or nothing, in case that its worker dies before it can tell."""
        self._ended[number] = failure

    def begun(self, numbers: list[int]) -> dict[int, State]:
        """Return the states of images, of those that were begun."""
        states: dict[int, State] = {**self._begun, **self._ended}
        return {number: states[number] for number in numbers if number in states}

    def forget(self, numbers: list[int]) -> None:
        """Drop images whose result arrived."""
        for number in numbers:
            self._begun.pop(number, None)
            self._ended.pop(number, None)


def new_attempts() -> Any:
    """Start the count of a run; return its handle."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()


def end_attempts(attempts: Any) -> None:
    """End the count of a run, after what was sent to it has arrived."""
    ray.wait([attempts.forget.remote([])], timeout=_LAST)
    ray.kill(attempts)


def begin(attempts: Any, number: int) -> int:
    """Count an image as begun, on the cluster; return how often it was."""
    return int(ray.get(attempts.begin.remote(number)))


def end(attempts: Any, number: int, failure: str) -> None:
    """Note why an image failed, or nothing."""
    ray.get(attempts.end.remote(number, failure))


def begun(attempts: Any, numbers: list[int]) -> dict[int, State]:
    """Return the states of images that were begun, by workers that died."""
    return dict(ray.get(attempts.begun.remote(numbers)))
