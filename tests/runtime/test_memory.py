"""Memory planned before a run: laws of the plan, and the plan against a real process."""

import resource
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import memory
from dossr.runtime.bundle import DEMO, ActivationRecord, open_bundle
from dossr.runtime.engines.lazy import EngineSlot, LazyEngine
from dossr.runtime.errors import EngineError, OutOfMemoryError
from dossr.runtime.hardware import free_memory
from dossr.runtime.images.source import Frame, SourceImage
from dossr.runtime.memory import (
    TILES,
    image_bytes,
    memory_need,
    plan_memory,
    run_with_less,
    smaller,
)
from dossr.runtime.options import SamplingOptions, Tiling
from dossr.runtime.pipeline import Pipeline
from dossr.runtime.sampling import latent_shape
from dossr.runtime.seeds.draws import together

PEAK = """
from dossr.bench.measure.memory import process_peak
from dossr.runtime.launch import run
try:
    run()
finally:
    print(process_peak())
"""


@pytest.fixture
def manifest():
    return open_bundle(DEMO).manifest


def test_the_count_at_both_sizes_is_what_the_export_found(manifest):
    for record in manifest.stages.values():
        for entry in record.activations:
            assert memory._activation_bytes(record, entry.side**2) == pytest.approx(entry.bytes)


def test_a_network_without_attention_grows_with_the_area():
    record = next(iter(open_bundle(DEMO).manifest.stages.values()))
    record = replace(record, activations=(ActivationRecord(128, 1000), ActivationRecord(256, 4000)))
    assert memory._activation_bytes(record, 64**2) == pytest.approx(250)


def test_larger_tiles_and_batches_need_more(manifest):
    needs = [memory_need(manifest, "cpu", Tiling(side)).activations for side in (64, 96, 128, 256)]
    assert needs == sorted(needs)
    batches = [memory_need(manifest, "cpu", Tiling(128, batch=n)).activations for n in (1, 2, 4, 8)]
    assert batches == sorted(batches)
    assert batches[3] > 3 * batches[0]


def test_one_network_at_a_time_needs_less(manifest):
    full, low = (memory_need(manifest, "cpu", Tiling(), low_memory=low) for low in (False, True))
    assert low.weights < full.weights
    assert low.activations == full.activations


@pytest.mark.parametrize("multiple", [8, 16])
def test_smaller_tiling_ends_and_batches_go_first(multiple):
    steps, tiling = [], Tiling(256, batch=4)
    while tiling is not None:
        steps.append((tiling.tile, tiling.batch))
        tiling = smaller(tiling, multiple)
    assert steps == [(256, 4), (256, 2), (256, 1), (128, 1), (96, 1), (64, 1)]
    assert smaller(Tiling(0), 16) == Tiling(128)


def test_an_overlap_that_no_smaller_tile_takes_is_kept():
    assert smaller(Tiling(128, overlap=112), 16) is None


def test_the_plan_takes_the_largest_tile_that_fits(manifest, monkeypatch):
    needs = {side: memory_need(manifest, "cpu", Tiling(side)).total for side in TILES}
    for side in TILES:
        monkeypatch.setattr(memory, "free_memory", lambda need=needs[side]: need)
        plan = plan_memory(manifest, "cpu", Tiling())
        assert (plan.tiling.tile, plan.fits) == (side, True)
    monkeypatch.setattr(memory, "free_memory", lambda: needs[64] - 1)
    plan = plan_memory(manifest, "cpu", Tiling())
    assert (plan.tiling.tile, plan.fits) == (64, False)
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    assert plan_memory(manifest, "cpu", Tiling()).tiling == Tiling()


def test_a_bundle_that_does_not_tell_is_not_planned(manifest):
    silent = {name: replace(s, activations=()) for name, s in manifest.stages.items()}
    assert plan_memory(replace(manifest, stages=silent), "cpu", Tiling()) is None


@pytest.mark.parametrize("side", [64, 128])
def test_a_process_takes_about_what_is_planned(manifest, tmp_path, side):
    """Between half of the plan and the plan, so that a plan that fits does not run out."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    arguments = [tmp_path / "in.png", "-o", tmp_path / "out.png", "--steps", "1", "--tile", "128"]
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, arguments)],
                          capture_output=True, text=True, check=True)  # fmt: skip
    peak = int(done.stdout.split()[-1])
    planned = memory_need(manifest, "cpu", Tiling(side)).total + _image(manifest, side, steps=1)
    assert 0.5 * planned < peak < planned


@pytest.mark.parametrize("error", [OutOfMemoryError("too large"), MemoryError()])
def test_a_run_that_runs_out_goes_on_with_less_and_says_so(error):
    tried, said = [], []

    def run(options):
        tried.append((options.tiling.tile, options.tiling.batch))
        if len(tried) < 4:
            raise error
        return "image"

    options = SamplingOptions(tiling=Tiling(batch=4))
    result, taken = run_with_less(run, options, 16, said.append)
    assert (result, taken.tiling) == ("image", Tiling(96))
    assert tried == [(128, 4), (128, 2), (128, 1), (96, 1)]
    assert said == [
        "memory ran out; going on with tiles of 128 in batches of 2",
        "memory ran out; going on with tiles of 128",
        "memory ran out; going on with tiles of 96",
    ]


def test_a_run_that_fits_nowhere_and_other_errors_are_passed_on():
    def run(_, error):
        raise error

    for error in (OutOfMemoryError("no"), EngineError("broken"), MemoryError()):
        said = []
        with pytest.raises(type(error)):
            run_with_less(partial(run, error=error), SamplingOptions(), 16, said.append)
        assert len(said) == (0 if type(error) is EngineError else 2)


@pytest.mark.parametrize(
    ("factor", "steps", "draws"), [(2, 5, 1), (2, 50, 1), (8, 5, 1), (2, 5, 20), (8, 50, 20)]
)
def test_the_arrays_of_an_image_take_about_what_is_counted(manifest, factor, steps, draws):
    """Networks that only fill their outputs, each reloaded: 16 of 20 draws are sampled together."""
    manifest, side = replace(manifest, vae_factor=factor), 32
    slot = EngineSlot()
    stages = {
        name: LazyEngine(slot, partial(_Filled, shapes), {}, {})
        for name, shapes in _shapes(manifest, side).items()
    }
    pipeline, lr = Pipeline(stages, manifest), np.zeros((side, side, 3), np.uint8)
    tracemalloc.start()
    try:
        for _ in pipeline.draws(lr, SamplingOptions(steps), range(draws)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    planned = _image(manifest, side, steps=steps, draws=min(16, draws))
    assert 0.4 * planned < peak < planned


def test_draws_are_sampled_together_as_far_as_the_memory_goes(manifest, monkeypatch):
    options, size = SamplingOptions(499), (256, 256)
    one, two = (_image(manifest, 256, steps=499, draws=draws) for draws in (1, 2))

    def held(free, count=20):
        monkeypatch.setattr(memory, "free_memory", lambda: free)
        return together(manifest, options, size, count, is_reloaded=True)

    assert held(None) == 16
    assert held(None, count=3) == 3
    assert held(1000) == 1
    assert held(2 * (one + 4 * (two - one))) == 5


def test_all_frames_and_the_size_asked_for_are_counted(manifest):
    """Results of 64 x 64 are held, and written in 4000 x 4000 with three copies."""
    frame = Frame(np.zeros((16, 16, 3), np.uint8))
    counted = image_bytes(
        manifest, SourceImage((frame,) * 40), [(4000, 4000)] * 40, depth=8, steps=5
    )
    assert counted == 40 * (64 * 64 + 3 * 4000 * 4000) * 3


def test_an_animated_avif_takes_what_is_counted(manifest):
    """Its encoder looks many frames ahead; the code that it loads is not counted."""
    program = (
        "import io, numpy as np\n"
        "from PIL import Image\n"
        "from dossr.bench.measure.memory import process_peak\n"
        "random = np.random.default_rng(0)\n"
        "pixels = random.integers(0, 256, (12, 512, 512, 3), dtype=np.uint8)\n"
        "first, *others = map(Image.fromarray, pixels)\n"
        "before = process_peak()\n"
        "first.save(io.BytesIO(), 'AVIF', save_all=True, append_images=others, duration=40)\n"
        "print(process_peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    frame = Frame(np.zeros((128, 128, 3), np.uint8))
    counted = image_bytes(
        manifest, SourceImage((frame,) * 12), [(512, 512)] * 12, kind="AVIF", depth=8, steps=5
    )
    assert 0.5 * counted < int(done.stdout) < counted + (24 << 20)


def _image(manifest, side, **counted):
    source = SourceImage((Frame(np.zeros((side, side, 3), np.uint8)),))
    return image_bytes(manifest, source, [(4 * side, 4 * side)], depth=8, **counted)


def _shapes(manifest, side):
    """Return the outputs of each stage for one square image that is a tile."""
    image, latent = (3, 4 * side, 4 * side), latent_shape(manifest, side, side)[1:]
    return {
        "restorer": {"restored": image},
        "encoder": {"mean": latent, "std": latent},
        "denoiser": {"eps": latent},
        "decoder": {"image": image},
    }


class _Filled:
    """A network of constants."""

    def __init__(self, shapes):
        self._shapes = shapes

    def run(self, **inputs):
        images = max(array.shape[0] for array in inputs.values())
        return {
            name: np.full((images, *shape), 0.5, np.float32) for name, shape in self._shapes.items()
        }


def test_the_limit_of_a_process_counts_as_free_memory():
    program = "from dossr.runtime.hardware import free_memory; print(free_memory())"
    limit = 1 << 30
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert 0 < int(done.stdout) < limit


def test_a_control_group_counts_as_free_memory():
    """A group of this process's own; needs root and a writable file system."""
    group = Path("/sys/fs/cgroup/memory/dossr-test")
    limit = "memory.limit_in_bytes"
    if not group.parent.is_dir():
        group, limit = Path("/sys/fs/cgroup/dossr-test"), "memory.max"
    try:
        group.mkdir()
        (group / limit).write_text(str(512 << 20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        program = (
            "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))\n"
            "from dossr.runtime.hardware import free_memory, total_memory\n"
            "print(free_memory(), total_memory())"
        )
        done = subprocess.run([sys.executable, "-c", program, group / "cgroup.procs"],
                              capture_output=True, text=True, check=True)  # fmt: skip
        free, total = map(int, done.stdout.split())
        assert total == 512 << 20
        assert total - (200 << 20) < free <= total
    finally:
        group.rmdir()
    assert free_memory() > 512 << 20
