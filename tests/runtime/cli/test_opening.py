"""When a run holds one network at a time without being asked."""

import os
from pathlib import Path

import pytest
from PIL import Image

from dossr.runtime.cli import opening
from dossr.runtime.cli.arguments import to_arguments
from dossr.runtime.cli.command import main
from dossr.runtime.cli.jobs import Job
from dossr.runtime.options import SamplingOptions


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
    arguments = _arguments(tmp_path / "still.png", *options.split())
    jobs = [Job(name and tmp_path / name, Path("big.png")) for name in names]
    assert opening.save_memory(arguments, jobs).low_memory is is_saving


@pytest.mark.parametrize("device", ["openvino", "auto"])
def test_a_pipe_is_not_read_to_count_its_frames(tmp_path, monkeypatch, device):
    """The run itself would then find it empty."""
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(opening, "count_frames", lambda path: pytest.fail(f"{path} was read"))
    arguments = _arguments(tmp_path / "pipe", "--device", device)
    assert opening.save_memory(arguments, [Job(tmp_path / "pipe", Path("big.png"))]) is arguments


def test_auto_plans_memory_for_the_device_that_it_will_take(photo, monkeypatch):
    needs = {}
    for name in ("cpu", "openvino"):
        monkeypatch.setattr("dossr.runtime.engines.auto.likely_device", lambda *_, name=name: name)
        for device in (name, "auto"):
            arguments = _arguments(photo, "--device", device)
            _, plan = opening.check_bundle(arguments, SamplingOptions())
            needs.setdefault(name, []).append(plan.need)
    assert needs["cpu"] == needs["cpu"][:1] * 2
    assert needs["openvino"] == needs["openvino"][:1] * 2
    assert needs["cpu"] != needs["openvino"]


def _arguments(image, *options):
    with main.make_context("dossr-run", [str(image), "-o", "big.png", *options]) as context:
        return to_arguments(context.params)
