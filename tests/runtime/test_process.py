"""Standard streams, signals, memory limits, the home folder: dossr-run as a process."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dossr.runtime.launch import launch

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]
DOCTOR = [sys.executable, "-c", "from dossr.runtime.launch import doctor; doctor()"]


@pytest.mark.parametrize(
    "arguments", [[*RUN, "photo.png", "-o", "big.png"], [*RUN, "photo.png", "-o", "big.png", "--json"], DOCTOR]
)  # fmt: skip
def test_a_full_standard_output_is_one_line(photo, toy_bundle, arguments):
    bundle = [] if arguments is DOCTOR else ["-b", str(toy_bundle), "--steps", "1"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*arguments, *bundle], stdout=full, stderr=subprocess.PIPE, text=True, cwd=photo.parent
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot write the output: No space left on device" in done.stderr


INTERRUPTED = """
import signal, sys
from dossr.runtime.launch import run

signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, float(sys.argv.pop(1)))
run()
"""


def test_ctrl_c_during_the_imports_is_one_line(photo, heeding):
    """The program interrupts itself, at twelve moments of its first quarter of a second."""
    arguments = [str(photo), "-o", str(photo.with_name("o.png"))]
    for number in range(12):
        after = 0.005 + 0.02 * number
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, str(after), *arguments],
            stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert "dossr-run: stopped\n" in done.stderr
        assert "Traceback" not in done.stderr


def test_too_little_memory_to_start_is_one_line(dossr_run, photo):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (150 << 20,) * 2)

    done = dossr_run(photo, "-o", photo.with_name("o.png"), preexec_fn=limit)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dossr-run: ")  # a note may precede it


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(photo, toy_bundle, closed):
    target = photo.with_name("big.png")
    program = f'exec "$@" {closed}'
    command = [*RUN, photo, "-o", target, "-b", toy_bundle, "--steps", "1"]
    done = subprocess.run(["sh", "-c", program, "sh", *map(str, command)], timeout=60)
    assert done.returncode == 0
    with Image.open(target) as image:
        assert image.size == (128, 128)


@pytest.mark.parametrize("command", [RUN, DOCTOR])
def test_nothing_but_our_cache_is_written_to_the_home_folder(photo, toy_bundle, tmp_path, command):
    home = tmp_path / "home"
    home.mkdir()
    arguments = [photo, "-o", photo.with_name("o.png"), "-b", toy_bundle] if command is RUN else []
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run([*command, *map(str, arguments)], env=environment, capture_output=True)
    assert done.returncode == 0
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in files if home / ".cache" / "dossr" not in path.parents] == []


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_done(
    one_line, photo, toy_bundle, tmp_path
):
    (tmp_path / "in" / "locked").mkdir(parents=True)
    shutil.copy(photo, tmp_path / "in")
    (tmp_path / "in" / "locked").chmod(0)
    as_user = []
    if os.geteuid() == 0:  # root may read every folder, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot give up its rights here: there is no setpriv")
        as_user = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [*as_user, *RUN, tmp_path / "in", "-o", tmp_path / "out", "-b", toy_bundle]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    (tmp_path / "in" / "locked").chmod(0o700)
    assert done.returncode == 1
    assert "locked cannot be read: Permission denied" in one_line(done.stderr)
    assert (tmp_path / "out" / "photo.png").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 9. GiB"), "not enough memory: Unable to allocate 9. GiB"),
        (ImportError(), "cannot start: ImportError"),
        (ImportError("a\nb\n"), "cannot start: b"),
        (ModuleNotFoundError("No module named 'x'"),
         "cannot start: No module named 'x'; install it with: pip install 'dossr[cpu]'"),
    ],
)  # fmt: skip
def test_an_error_of_the_whole_command_is_one_line(monkeypatch, capsys, error, line):
    class Module:
        @staticmethod
        def main():
            raise error

    monkeypatch.setitem(sys.modules, "broken_command", Module)
    with pytest.raises(SystemExit) as ended:
        launch("dossr-run", "broken_command", "cpu")
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"dossr-run: {line}\n"
