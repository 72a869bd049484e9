"""Reading ahead and writing behind: order, bounds, errors, ends."""

import gc
import threading
import time
import weakref
from contextlib import suppress
from functools import partial

import pytest

from dossr.runtime.cli.overlap import WriteBehind, read_ahead


class Item:
    pass


def _wait_for(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def _has(items, count):
    return len(items) >= count


def test_the_order_is_kept():
    assert list(read_ahead(range(1000))) == list(range(1000))
    assert list(read_ahead([])) == []


def test_one_item_is_fetched_ahead_and_no_more():
    fetched = []
    ahead = read_ahead(fetched.append(number) or number for number in range(5))
    for number in range(5):
        assert next(ahead) == number
        expected = min(number + 2, 5)
        _wait_for(partial(_has, fetched, expected))
        time.sleep(0.02)
        assert len(fetched) == expected


def test_items_are_freed_once_they_are_used():
    """Lives: the item in use and the one ahead."""
    born = []

    def items():
        for _ in range(6):
            item = Item()
            born.append(weakref.ref(item))
            yield item
            del item

    for _ in read_ahead(items()):
        time.sleep(0.01)
        gc.collect()
        assert sum(reference() is not None for reference in born) <= 3  # and the generator's own


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        raise LookupError("third party")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(LookupError, match="third party"):
        next(ahead)


def test_a_reader_that_is_left_ends_its_thread():
    before = threading.active_count()
    ahead = read_ahead(range(100))
    next(ahead)
    ahead.close()
    _wait_for(lambda: threading.active_count() <= before)


def test_tasks_run_one_after_the_other_beside_the_caller():
    running, log, gate = [], [], threading.Event()

    def task(number):
        running.append(number)
        assert len(running) == 1
        gate.wait(5)
        log.append(number)
        running.remove(number)

    with WriteBehind() as behind:
        behind.submit(lambda: task(1))
        assert log == []  # the caller goes on
        gate.set()
        behind.submit(lambda: task(2))
        assert log[0] == 1  # one behind, no more
    assert log == [1, 2]


def test_the_error_of_a_task_reaches_the_caller():
    with pytest.raises(ZeroDivisionError), WriteBehind() as behind:
        behind.submit(lambda: 1 // 0)


def test_an_interrupted_block_waits_for_a_moment_only():
    began = time.monotonic()
    with suppress(KeyboardInterrupt), WriteBehind() as behind:
        behind.submit(lambda: time.sleep(10))
        raise KeyboardInterrupt
    assert time.monotonic() - began < 2
