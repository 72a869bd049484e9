"""Ctrl-C and kill -9 in the middle of a folder, and the run that does the rest (report 4)."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from PIL import Image

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]
NAMES = [f"{number}.png" for number in range(6)]


@pytest.fixture
def command(toy_bundle, make_image, tmp_path):
    """Six images in tiles, some 0.1 s each, into ``out``."""
    for number, name in enumerate(NAMES):
        make_image(tmp_path / "in" / name, (220, 150), seed=number)
    words = [tmp_path / "in", "-o", tmp_path / "out", "-b", toy_bundle, "--tile", 64, "--steps", 3]
    return [*RUN, *map(str, words)]


def _end_after(command, lines, number):
    """Start a run and send a signal after so many results; return exit code, seconds, stderr."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(lines):
            assert process.stdout.readline()
        process.send_signal(number)
        began = time.monotonic()
        code = process.wait(timeout=60)
        return code, time.monotonic() - began, process.stderr.read()


def _check_whole(folder):
    """Every file opens; temporary files apart."""
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".dossr-"))
    for name in found:
        with Image.open(folder / name) as image:
            assert np.asarray(image).shape == (600, 880, 3)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stops_in_two_seconds_and_leaves_whole_files(command, heeding, tmp_path, number):
    code, seconds, stderr = _end_after(command, 2, number)
    assert code == 1
    assert seconds < 2
    assert stderr.strip() == "dossr-run: stopped"
    done = _check_whole(tmp_path / "out")
    assert done[:2] == NAMES[:2]
    assert not list((tmp_path / "out").glob(".dossr-*"))


def test_what_a_killed_run_left_is_done_by_the_next(command, tmp_path):
    assert _end_after(command, 2, signal.SIGKILL)[0] == -signal.SIGKILL
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in _check_whole(out)}
    left = out / ".dossr-0123456789abcdef.png"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))  # older than the run
    rest = subprocess.run([*command, "--skip-existing"], capture_output=True, text=True)
    assert rest.returncode == 0
    assert len(rest.stdout.splitlines()) == len(NAMES) - len(before)
    assert _check_whole(out) == NAMES
    assert not list(out.glob(".dossr-*"))
    assert {name: (out / name).read_bytes() for name in before} == before


SLOW_WRITE = """
import time
from dossr.runtime.cli import main, one_image
from dossr.runtime.terminal import captured_stderr

def slow(*_, **__):
    with captured_stderr():
        print("writing", flush=True)
        time.sleep(30)

one_image.write_image = slow
main()
"""


def test_a_slow_disk_does_not_hold_up_the_end(command, heeding, tmp_path):
    """The thread that writes also captures stderr; the message must get through."""
    command[2] = SLOW_WRITE
    code, seconds, stderr = _end_after(command, 1, signal.SIGINT)
    assert code == 1
    assert seconds < 2
    assert stderr.strip() == "dossr-run: stopped"
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_waits_for_standard_input_stops(toy_bundle, heeding, tmp_path, number):
    """Python aborted: the waiting thread held the lock of the buffer of standard input."""
    command = [*RUN, "-", "-o", str(tmp_path / "a.png"), "-b", str(toy_bundle)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(b"half an image")
        process.stdin.flush()
        while any(fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))):  # not read yet
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(60) == 1
        assert process.stderr.read().decode().strip() == "dossr-run: stopped"
