"""All images of a run: file work beside the networks, errors at their image, memory given back."""

import itertools
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import memory
from dossr.runtime.bundle import DEMO, MANIFEST, read_manifest
from dossr.runtime.cli import loop
from dossr.runtime.cli.jobs import Job
from dossr.runtime.cli.loop import run_jobs
from dossr.runtime.cli.one_image import Failed, Settings, Skipped, Written, load
from dossr.runtime.cli.results import Reporter
from dossr.runtime.errors import EngineError, OutOfMemoryError
from dossr.runtime.images.sizes import TargetSize
from dossr.runtime.images.source import WriteOptions
from dossr.runtime.options import SamplingOptions, Tiling


class Repeat:
    """Networks that repeat each pixel; 33 pixels are too wide for them."""

    manifest = read_manifest(DEMO / MANIFEST)

    def __init__(self):
        self.depths = []

    def run(self, lr, options, *, depth, progress):
        if lr.shape[1] == 33:
            raise EngineError("33 pixels do not work")
        self.depths.append(depth)
        progress(1, 1)
        return np.repeat(np.repeat(lr, 4, 0), 4, 1)


@pytest.fixture
def settings():
    return Settings(TargetSize(), SamplingOptions(), WriteOptions(), ".png", 1_000_000)


def test_pages_whose_result_was_named_as_of_one_image_fail_with_the_advice(tmp_path, settings):
    """A TIFF in a store is named without being opened."""
    pages = [Image.new("L", (16, 16), level) for level in (10, 200)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    outcome = load(
        Job(tmp_path / "pages.tif", tmp_path / "pages.png"), replace(settings, pages_in_tiff=True)
    )
    assert isinstance(outcome, Failed)
    assert outcome.reason.endswith("has 2 pages; pass --format tif or --first-frame")
    tiff = Job(tmp_path / "pages.tif", tmp_path / "out.tif")
    assert not isinstance(load(tiff, replace(settings, pages_in_tiff=True)), Failed)


def _run(pipeline, jobs, settings, results=None):
    return run_jobs(pipeline, jobs, settings, Reporter(settings, len(jobs), results))


class Waiting(Repeat):
    """Networks that wait until the next image is being read and the one before is written."""

    def __init__(self, count):
        super().__init__()
        self.read = [threading.Event() for _ in range(count)]
        self.written = [threading.Event() for _ in range(count)]
        self.patience = 20

    def run(self, lr, options, *, depth, progress):
        number = len(self.depths)
        neighbours = [*self.read[number + 1 : number + 2], *self.written[:number][-1:]]
        assert all(event.wait(self.patience) for event in neighbours), number
        return super().run(lr, options, depth=depth, progress=progress)


def test_reading_and_writing_happen_beside_the_networks(
    make_image, settings, tmp_path, monkeypatch
):
    """One after the other, the networks would wait in vain."""
    pipeline = Waiting(6)

    def marked(events, function):
        numbers = itertools.count()

        def run(*arguments):
            number = next(numbers)
            if events is pipeline.read:
                events[number].set()
            result = function(*arguments)
            events[number].set()
            return result

        return run

    monkeypatch.setattr(loop, "load", marked(pipeline.read, loop.load))
    monkeypatch.setattr(loop, "write", marked(pipeline.written, loop.write))
    photo = make_image(tmp_path / "a.png")
    jobs = [Job(photo, tmp_path / f"{number}.png") for number in range(6)]
    outcomes = _run(pipeline, jobs, settings)
    assert all(isinstance(each, Written) for each in outcomes)


class Small(Repeat):
    """Networks whose memory takes tiles of 96 at most."""

    manifest = replace(Repeat.manifest, size_multiple=16)

    def __init__(self):
        super().__init__()
        self.tiles = []

    def run(self, lr, options, *, depth, progress):
        self.tiles.append((options.tiling.tile, options.tiling.batch))
        if options.tiling.tile > 96:
            raise OutOfMemoryError("the denoiser ran out of memory")
        return super().run(lr, options, depth=depth, progress=progress)


def test_where_memory_runs_out_all_later_images_get_smaller_tiles(
    make_image, settings, tmp_path, capsys
):
    photo = make_image(tmp_path / "a.png")
    jobs = [Job(photo, tmp_path / f"{number}.png") for number in range(3)]
    sampling = replace(settings.sampling, tiling=Tiling(batch=2))
    pipeline = Small()
    outcomes = _run(pipeline, jobs, replace(settings, sampling=sampling, shrinks=True))
    assert all(isinstance(each, Written) for each in outcomes)
    assert pipeline.tiles == [(128, 2), (128, 1), (96, 1), (96, 1), (96, 1)]
    assert capsys.readouterr().err.splitlines() == [
        "memory ran out; going on with tiles of 128",
        "memory ran out; going on with tiles of 96",
    ]


def test_a_tile_that_was_asked_for_is_kept_and_the_image_fails(make_image, settings, tmp_path):
    pipeline = Small()
    (outcome,) = _run(pipeline, [Job(make_image(tmp_path / "a.png"), tmp_path / "o.png")], settings)
    assert isinstance(outcome, Failed)
    assert "the denoiser ran out of memory" in outcome.reason
    assert pipeline.tiles == [(128, 1)]


def test_an_image_that_is_larger_than_the_memory_fails_before_the_networks(
    make_image, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    pipeline = Repeat()
    (outcome,) = _run(pipeline, [Job(make_image(tmp_path / "a.png"), tmp_path / "o.png")], settings)
    assert isinstance(outcome, Failed)
    assert "GB are free; reduce the image or cut it" in outcome.reason
    assert pipeline.depths == []


def test_an_image_waits_until_the_memory_of_the_one_before_is_free(
    make_image, settings, tmp_path, monkeypatch
):
    """Nothing fits while a result is held, which is written slowly."""
    results = []

    class Held(Repeat):
        def run(self, lr, options, **others):
            results.append(weakref.ref(found := super().run(lr, options, **others)))
            return found

    def slow(*arguments):
        time.sleep(0.05)
        return write(*arguments)

    write = loop.write
    monkeypatch.setattr(loop, "write", slow)
    monkeypatch.setattr(
        memory, "free_memory", lambda: 1000 if any(each() is not None for each in results) else None
    )
    jobs = [Job(make_image(tmp_path / f"{name}.png"), tmp_path / f"o{name}.png") for name in "abcd"]
    outcomes = _run(Held(), jobs, settings)
    assert [type(each) for each in outcomes] == [Written] * 4


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
