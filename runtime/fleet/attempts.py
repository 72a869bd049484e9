"""How often each image was begun, so that one that kills its worker is given up and not repeated."""

from typing import Any

import ray

MOST = 2
"""Times that an image is begun: once, and once more after its worker died."""


_LAST = 5.0  # seconds that the end of a run waits for

ENDED = -1
"""In the place of the number of times: the image is done."""


class Attempts:
    """One for a run. Counts the images in work only: those whose result arrived are forgotten."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """Count an image as begun once more; return how often it was."""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]

    def end(self, number: int) -> None:
        """Note that an image is done, in case that its worker dies before it can tell."""
        self._begun[number] = ENDED

    def begun(self, numbers: list[int]) -> dict[int, int]:
        """Return how often images were begun, of those that were."""
        return {number: self._begun[number] for number in numbers if number in self._begun}

    def forget(self, numbers: list[int]) -> None:
        """Drop images whose result arrived."""
        for number in numbers:
            self._begun.pop(number, None)


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


def end(attempts: Any, number: int) -> None:
    """Note that an image is done."""
    ray.get(attempts.end.remote(number))


def begun(attempts: Any, numbers: list[int]) -> dict[int, int]:
    """Return how often images were begun, by workers that died."""
    return dict(ray.get(attempts.begun.remote(numbers)))
