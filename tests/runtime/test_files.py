"""Files that are complete or absent."""

import subprocess
import sys
import time

import pytest

from dossr.runtime.files import write_whole


def test_a_file_is_the_old_or_the_new_one_whenever_the_writer_dies(tmp_path):
    """A process that writes without end is killed at odd moments."""
    path = tmp_path / "plan.engine"
    program = (
        "import sys; from pathlib import Path\n"
        "from dossr.runtime.files import write_whole\n"
        "n = 0\n"
        "while True:\n"
        "    n = (n + 1) % 256\n"
        "    write_whole(Path(sys.argv[1]), bytes([n]) * (1 << 20))\n"
    )
    for pause in (0.0, 0.013, 0.031):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause)
        writer.kill()
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 1 << 20
        assert len(set(data)) == 1
        path.unlink()


def test_nothing_is_left_beside_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(TypeError):
        write_whole(tmp_path / "x.engine", "text is no buffer")
    assert list(tmp_path.iterdir()) == []
