"""The memory of a network's intermediate results: held by one network of a pipeline at a time.

A compiled model keeps it for the next run. In a pipeline the networks take turns, so that all of them
would keep the memory of their largest image: 2 GiB at the official size. Where memory runs out, the
networks give back their compiled models, too: those of smaller tiles would else be held beside them.
"""

import weakref
from typing import Protocol


class Owner(Protocol):
    """A network that keeps memory between its runs."""

    def release(self) -> None:
        """Give back the memory; the next run takes it again."""
        ...

    def clear(self) -> None:
        """Give back the compiled models, with their weights; the next run compiles again."""
        ...


class Buffers:
    """Knows whose memory is held: intermediate results of the network which ran last, compiled models of all."""

    def __init__(self) -> None:
        self._owner: weakref.ref[Owner] | None = None
        self._owners: weakref.WeakSet[Owner] = weakref.WeakSet()

    def pass_to(self, owner: Owner) -> None:
        """Let a network run; another one that ran last gives back its memory first."""
        last = self._owner() if self._owner else None
        if last is not owner:
            if last is not None:
                last.release()
            self._owner = weakref.ref(owner)
            self._owners.add(owner)

    def clear(self) -> None:
        """Let all networks that ran give back their compiled models."""
        for owner in self._owners:
            owner.clear()
