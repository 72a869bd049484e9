"""Ctrl-C during long work, and durations as text."""

import signal
import subprocess
import sys
import threading

import pytest

from dossr.runtime.terminal import interruptible, time_left


def test_ctrl_c_ends_work_that_lets_no_signal_through(heeding):
    """The work blocks in one call, as in a library; Ctrl-C must reach it and end it."""
    program = (
        "import threading\n"
        "from dossr.runtime.terminal import interruptible\n"
        "told = threading.Event()\n"
        "def work():\n"
        "    print('working', flush=True)\n"
        "    told.wait(60)\n"
        "    print('told', told.is_set(), flush=True)\n"
        "try:\n"
        "    interruptible(work, told.set)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "told True\nstopped\n"


def test_the_work_gives_its_result_or_its_error():
    caller = threading.get_ident()
    assert interruptible(threading.get_ident, lambda: None) != caller
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, lambda: None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (2, "5 s"), (41, "45 s"), (91, "2 min"), (3599, "60 min"), (7500, "2 h 5 min")],
)
def test_time_left_is_no_more_exact_than_it_is_known(seconds, text):
    assert time_left(seconds) == text.replace("60 min", "1 h 0 min")
