"""Fixtures of the runtime's tests: dossr-run in a real process, a photo, a bundle to spoil."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime.bundle import DEMO

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]


@pytest.fixture
def noise():
    """noise(side) is a square image of random pixels."""
    return _noise


@pytest.fixture
def dossr_run():
    """dossr_run(*arguments, **options) runs dossr-run with one step in a process."""
    return _run


@pytest.fixture
def one_line():
    """one_line(stderr) checks that stderr is one error of dossr-run, and returns it."""
    return _one_line


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    _noise(32).save(path)
    return path


@pytest.fixture
def demo(tmp_path):
    """A copy of the demo bundle that a test may spoil."""
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))


@pytest.fixture
def no_onnxruntime(monkeypatch):
    """ONNX Runtime is not installed."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "dossr.runtime.engines.onnxruntime.session", raising=False)


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(kilobytes) mounts a file system of that size; needs root."""
    mounted = []

    def mount(kilobytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a file system needs root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def _noise(side):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def _run(*arguments, **options):
    return subprocess.run(
        [*RUN, *map(str, arguments), "--steps", "1"],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def _one_line(stderr):
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("dossr-run: "), stderr
    assert len(stderr) < 600
    return stderr
