"""When a run holds one network at a time without being asked."""

import os
from pathlib import Path

import pytest
from PIL import Image

from dossr.runtime.cli import opening
from dossr.runtime.cli.arguments import to_arguments
from dossr.runtime.cli.command import main
from dossr.runtime.cli.jobs import Job


@pytest.mark.parametrize(
    ("options", "names", "is_saving"),
    [
        ("--device openvino", ["still.png"], True),
        ("--device openvino:CPU", ["still.png"], True),
        ("--device auto", ["still.png"], True),
        ("--device openvino", ["missing.png"], True),
        ("--device openvino", ["moving.gif"], False),
        ("--device openvino --first-frame", ["moving.gif"], True),
        ("--device openvino", ["still.png", "still.png"], False),
        ("--device openvino --seeds 2", ["still.png"], False),
        ("--device openvino", [None], False),
        ("--device openvino", [], False),
        ("--device cpu", ["still.png"], False),
        ("--device cpu --low-memory", ["still.png", "still.png"], True),
    ],
)
def test_a_single_still_image_needs_one_network_at_a_time(tmp_path, options, names, is_saving):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "still.png")
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    line = [str(tmp_path / "still.png"), "-o", "big.png", *options.split()]
    with main.make_context("dossr-run", line) as context:
        arguments = to_arguments(context.params)
    jobs = [Job(name and tmp_path / name, Path("big.png")) for name in names]
    assert opening.save_memory(arguments, jobs).low_memory is is_saving


@pytest.mark.parametrize("device", ["openvino", "auto"])
def test_a_pipe_is_not_read_to_count_its_frames(tmp_path, monkeypatch, device):
    """The run itself would then find it empty."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(opening, "count_frames", lambda path: pytest.fail(f"{path} was read"))
    line = [str(tmp_path / "pipe"), "-o", "big.png", "--device", device]
    with main.make_context("dossr-run", line) as context:
        arguments = to_arguments(context.params)
    assert opening.save_memory(arguments, [Job(tmp_path / "pipe", Path("big.png"))]) is arguments
