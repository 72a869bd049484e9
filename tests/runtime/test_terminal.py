"""Ctrl-C during long work, and durations as text."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading

import pytest

from dossr.runtime.progress import PhaseProgress, columns, cut, time_left
from dossr.runtime.terminal import interruptible


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


PHASE = (
    "import sys, time\n"
    "from dossr.runtime.terminal import Terminal\n"
    "progress = Terminal(every=0.15)\n"
    "with progress.phase('loading'):\n"
    "    time.sleep(0.01)\n"
    "with progress.phase('images', 4) as advance:\n"
    "    for _ in range(3):\n"
    "        time.sleep(0.3)\n"
    "        advance(1)\n"
    "    progress.note('a note')\n"
    "    time.sleep(0.7)\n"
)


def test_elsewhere_progress_is_a_line_now_and_then(tmp_path):
    done = subprocess.run([sys.executable, "-c", PHASE], capture_output=True, text=True, check=True)
    loading, *lines, last = done.stderr.splitlines()
    assert done.stdout == ""
    assert re.fullmatch(r"loading: 0\.\d s", loading)
    assert re.fullmatch(r"images: 1\.\d s", last)
    assert lines.count("note: a note") == 1
    told = [line for line in lines if line != "note: a note"]
    assert told[0] == "images: 0% after 5 s"  # nothing is known before the first image
    assert "images: 50% after 5 s, about 5 s left" in told
    assert all(re.fullmatch(r"images: \d+% after 5 s(, about 5 s left)?", line) for line in told)


def test_on_a_terminal_progress_is_one_line_that_becomes_the_duration():
    reader, writer = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", PHASE], stderr=writer) as process:
        assert process.wait(timeout=60) == 0
    os.close(writer)
    seen = os.read(reader, 1 << 16).decode()
    os.close(reader)
    shown = [line.split("\r")[-1] if line.strip("\r") else "" for line in seen.split("\r\n")]
    assert [re.sub(r"[\d.]+ s", "? s", line) for line in shown] == ["loading: ? s", "note: a note", "images: ? s", ""]  # fmt: skip
    assert "\rimages   25%  about 5 s left" in seen


def test_a_task_that_fails_ends_its_line():
    program = f"{PHASE}\nwith progress.phase('more', 2):\n    sys.exit('no more')\n"
    reader, writer = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=writer) as process:
        assert process.wait(timeout=60) == 1
    os.close(writer)
    seen = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert seen.endswith("\rmore    0%\r\nno more\r\n")


def test_the_latest_units_tell_the_time_left(monkeypatch):
    """A first image may compile for minutes; later ones do not take as long."""
    now = [0.0]
    monkeypatch.setattr("dossr.runtime.progress.time.monotonic", lambda: now[0])
    phase = PhaseProgress(10)
    assert phase.left is None
    for seconds in (100.0, 4.0, 4.0, 4.0):
        now[0] += seconds
        phase.advance(1)
    assert (phase.share, phase.left) == (0.4, 24.0)
    now[0] += 3.0
    assert phase.left == 21.0
    now[0] += 60.0
    assert phase.left is None
    assert (PhaseProgress(None).share, PhaseProgress(None).left) == (None, None)


def test_progress_of_many_units_stays_small_and_right(monkeypatch):
    seconds = iter(range(100_000))
    monkeypatch.setattr("dossr.runtime.progress.time.monotonic", lambda: next(seconds))
    phase = PhaseProgress(40_000)
    for _ in range(20_000):
        phase.advance(1)
    assert len(phase._reports) < 4096
    assert (phase.share, phase.elapsed) == (0.5, 20_001)
    assert phase.left == pytest.approx(20_000, abs=10)


def test_letters_of_two_columns_count_as_two():
    assert columns("a\u5199\u771f.png") == 9
    assert [cut("a\u5199\u771fb", widest) for widest in (0, 2, 3, 9)] == [
        "", "a", "a\u5199", "a\u5199\u771fb",
    ]  # fmt: skip
