"""All images of a run: file work beside the networks, errors at their image, memory given back."""

import time

import numpy as np
import pytest

from dossr.runtime.cli import loop
from dossr.runtime.cli.jobs import Job
from dossr.runtime.cli.loop import run_jobs
from dossr.runtime.cli.one_image import Failed, Settings, Skipped, Written
from dossr.runtime.cli.results import Reporter
from dossr.runtime.errors import EngineError
from dossr.runtime.images.sizes import TargetSize
from dossr.runtime.images.source import WriteOptions
from dossr.runtime.options import SamplingOptions


class Repeat:
    """Networks that repeat each pixel; 33 pixels are too wide for them."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.depths = []

    def run(self, lr, options, *, depth, progress):
        if lr.shape[1] == 33:
            raise EngineError("33 pixels do not work")
        time.sleep(self.seconds)
        self.depths.append(depth)
        progress(1, 1)
        return np.repeat(np.repeat(lr, 4, 0), 4, 1)


@pytest.fixture
def settings():
    return Settings(TargetSize(), SamplingOptions(), WriteOptions(), ".png", 1_000_000)


def _run(pipeline, jobs, settings, results=None):
    return run_jobs(pipeline, jobs, settings, Reporter(settings, len(jobs), results))


def test_reading_and_writing_happen_beside_the_networks(
    make_image, settings, tmp_path, monkeypatch
):
    def slow(function):
        def run(*arguments):
            time.sleep(0.15)
            return function(*arguments)

        return run

    monkeypatch.setattr(loop, "load", slow(loop.load))
    monkeypatch.setattr(loop, "write", slow(loop.write))
    photo = make_image(tmp_path / "a.png")
    jobs = [Job(photo, tmp_path / f"{number}.png") for number in range(8)]
    began = time.perf_counter()
    outcomes = _run(Repeat(0.15), jobs, settings)
    assert all(isinstance(each, Written) for each in outcomes)
    assert time.perf_counter() - began < 8 * 0.15 * 3 * 0.7  # one after the other: 8 x 0.45 s


def test_each_error_is_that_of_its_image(make_image, settings, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    good = make_image(tmp_path / "good.png")
    jobs = [
        Job(good, tmp_path / "1.png"),
        Job(tmp_path / "text.png", tmp_path / "2.png"),
        Job(make_image(tmp_path / "wide.png", (33, 5)), tmp_path / "3.png"),
        Job(good, good / "4.png"),
        Job(good, tmp_path / "5.png"),
        Job(good, good),
    ]
    outcomes = _run(Repeat(), jobs, settings)
    assert [each.job for each in outcomes] == jobs
    assert [type(each) for each in outcomes] == [Written, Failed, Failed, Failed, Written, Failed]
    assert "text.png must be an image" in outcomes[1].reason
    assert outcomes[2].reason == f"{tmp_path / 'wide.png'}: 33 pixels do not work"
    assert "4.png cannot be written: " in outcomes[3].reason
    assert "good.png was created meanwhile and is not replaced" in outcomes[5].reason
    assert capsys.readouterr().err.count("dossr-run: ") == 4


def test_what_another_process_wrote_meanwhile_is_skipped(make_image, tmp_path):
    """Checked again when the result is written."""
    settings = Settings(
        TargetSize(), SamplingOptions(), WriteOptions(), ".png", 1_000_000, skip_existing=True
    )
    target = tmp_path / "o.png"

    class Racing(Repeat):
        def run(self, *arguments, **options):
            target.write_bytes(b"theirs")
            return super().run(*arguments, **options)

    (outcome,) = _run(Racing(), [Job(make_image(tmp_path / "a.png"), target)], settings)
    assert isinstance(outcome, Skipped)
    assert target.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("depth", "name", "bits"), [("auto", "o.png", 16), ("8", "o.png", 8), ("auto", "o.jpg", 8)]
)
def test_the_networks_round_once_to_the_depth_of_the_file(settings, tmp_path, depth, name, bits):
    from PIL import Image

    grey = np.arange(0, 65536, 256, np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    pipeline = Repeat()
    asked = Settings(TargetSize(), SamplingOptions(), WriteOptions(depth=depth), name[1:], 1_000)
    _run(pipeline, [Job(tmp_path / "a.png", tmp_path / name)], asked)
    assert pipeline.depths == [bits]
