"""How often each image was begun, so that one that kills its worker is given up and not repeated."""

from typing import Any

import ray

MOST = 2
"""Times that an image is begun: once, and once more after its worker died."""


class Attempts:
    """One for a run. Counts the images in work only: those that ended are forgotten."""

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """Count an image as begun once more; return how often it was."""
        self._begun[number] = self._begun.get(number, 0) + 1
        return self._begun[number]

    def any_begun(self, numbers: list[int]) -> bool:
        """Return whether one of these images was begun before."""
        return any(number in self._begun for number in numbers)

    def forget(self, numbers: list[int]) -> None:
        """Drop images that ended."""
        for number in numbers:
            self._begun.pop(number, None)


def new_attempts() -> Any:
    """Start the count of a run; return its handle."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()


def begin(attempts: Any, number: int) -> int:
    """Count an image as begun, on the cluster; return how often it was."""
    return int(ray.get(attempts.begin.remote(number)))


def any_begun(attempts: Any, numbers: list[int]) -> bool:
    """Return whether one of these images was begun before, by a worker that died."""
    return bool(ray.get(attempts.any_begun.remote(numbers)))
