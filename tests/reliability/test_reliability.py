"""A few cases of each kind of the reliability suite, in a process of its own. Long: run.py --help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="fork, RLIMIT_AS and /proc"
)


def _run(program, *options):
    command = [sys.executable, str(HERE / program), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_crash_hang_and_output_are_noticed():
    done = _run("selfcheck.py")
    assert json.loads(done.stdout) == [
        [], ["crash: SIGSEGV"], ["hang"], ["output on stderr"], ["crash: exit code 1"],
        ["crash: exit code 1"], [],
    ], done.stderr  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "count", "seed"),
    [("images", 800, 0), ("manifests", 240, 0), ("graphs", 50, 128), ("kills", 3, 1)],
)
def test_damage_and_kills_show_no_fault(kind, count, seed, tmp_path):
    result = tmp_path / "result.json"
    options = ("--only", kind, "--count", count, "--seed", seed, "--jobs", 1)
    done = _run("run.py", *options, "--faults", tmp_path / "faults", "--json", result)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert json.loads(result.read_text())["kinds"][kind]["cases"] == count
