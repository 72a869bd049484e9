"""Overlap of file work with the networks: read one item ahead, write one behind.

All threads are daemons, so that a slow disk cannot hold up Ctrl-C.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import TypeVar

_Item = TypeVar("_Item")

_POLL = 0.2  # seconds between checks for Ctrl-C
_LAST_WRITE = 1.2  # seconds that an interrupted run waits for the write in progress


def read_ahead(items: Iterable[_Item]) -> Generator[_Item, None, None]:
    """Yield the items of an iterable while a thread fetches the next one.

    At most one item is held besides the one in use. What the iterable raises is raised in its place.
    The iterable is used by one thread at a time.
    """
    box: queue.SimpleQueue[tuple[str, list[_Item] | BaseException | None]] = queue.SimpleQueue()
    wanted, ended = threading.Semaphore(1), threading.Event()

    def fetch() -> None:
        try:
            iterator = iter(items)
            while True:
                wanted.acquire()
                if ended.is_set():
                    return
                box.put(("item", [next(iterator)]))
        except StopIteration:
            box.put(("end", None))
        except BaseException as error:
            box.put(("error", error))

    threading.Thread(target=fetch, name="read-ahead", daemon=True).start()
    try:
        while True:
            _, value = _taken(box)
            if not isinstance(value, list):
                break
            wanted.release()
            yield value.pop()  # no reference to the item stays here
    finally:
        ended.set()
        wanted.release()
    if value is not None:
        raise value


def _taken(box: "queue.SimpleQueue[tuple[str, _Item]]") -> tuple[str, _Item]:
    while True:
        try:
            return box.get(timeout=_POLL)
        except queue.Empty:
            continue


class WriteBehind:
    """Runs one task at a time in a thread while the caller goes on.

    A context: the end of the block waits for the task in progress, for a moment only if the block
    was interrupted.
    """

    def __init__(self) -> None:
        self._done = threading.Event()
        self._done.set()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, task: Callable[[], object]) -> None:
        """Start a task; wait for the one before it first, and raise what that one raised."""
        self.wait()
        self._done.clear()
        self._thread = threading.Thread(
            target=self._run, args=(task,), name="write-behind", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until the task in progress is done and what it held is released; raise what it raised."""
        while not self._done.wait(_POLL):
            pass
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait()
        else:
            self._done.wait(_LAST_WRITE)

    def _run(self, task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()
