"""The memory of a network's intermediate results: held by one network of a pipeline at a time.

A compiled model keeps it for the next run. In a pipeline the networks take turns, so that all of them
would keep the memory of their largest image: 2 GiB at the official size.
"""

import weakref
from typing import Protocol


class Owner(Protocol):
    """A network that keeps memory between its runs."""

    def release(self) -> None:
        """Give back the memory; the next run takes it again."""
        ...


class Buffers:
    """Knows whose memory is held: that of the network which ran last."""

    def __init__(self) -> None:
        self._owner: weakref.ref[Owner] | None = None

    def pass_to(self, owner: Owner) -> None:
        """Let a network run; another one that ran last gives back its memory first."""
        last = self._owner() if self._owner else None
        if last is not owner:
            if last is not None:
                last.release()
            self._owner = weakref.ref(owner)
