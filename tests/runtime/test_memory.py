"""Memory planned before a run: laws of the plan, and the plan against a real process."""

import resource
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import memory
from dossr.runtime.bundle import DEMO, ActivationRecord, open_bundle
from dossr.runtime.errors import EngineError, OutOfMemoryError
from dossr.runtime.hardware import free_memory
from dossr.runtime.memory import (
    TILES,
    image_bytes,
    memory_need,
    plan_memory,
    run_with_less,
    smaller,
)
from dossr.runtime.options import SamplingOptions, Tiling

PEAK = """
import re
from dossr.runtime.launch import run
try:
    run()
finally:
    print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
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
    peak = int(done.stdout.split()[-1]) * 1024
    planned = memory_need(manifest, "cpu", Tiling(side)).with_image(side, side)
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


def test_images_take_memory_by_their_area():
    assert image_bytes(20, 30) == 6 * image_bytes(10, 10)


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
