"""What a run has to do, from what earlier ones left. No cluster."""

import os
import sys
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
from click import UsageError
from PIL import Image

from dossr.runtime.cli.arguments import to_arguments
from dossr.runtime.cli.command import main
from dossr.runtime.fleet import upscaling
from dossr.runtime.fleet.places import PlaceError
from dossr.runtime.fleet.records import Row
from dossr.runtime.fleet.upscaling import check_fleet, run_fleet

NAMES = ("00.png", "01.png", "02.png")


@pytest.fixture
def plan(make_images, toy_bundle, tmp_path, monkeypatch):
    """plan(*options, out=) is the plan of a run of three images into a folder."""
    make_images(tmp_path / "photos", len(NAMES))
    monkeypatch.chdir(tmp_path)

    def make(*options, out="out"):
        line = ["photos", "-o", out, "-b", str(toy_bundle), *options, "--ray"]
        with main.make_context("dossr-run", line) as context:
            return check_fleet(to_arguments(context.params))

    return make


@pytest.fixture
def begin(tmp_path):
    """begin(plan, done, ...) does a part of a plan: writes results, and rows of those that are recorded."""

    def work(plan, done=NAMES, recorded=NAMES, failed=(), overwriting=False):
        plan.records.begin(plan.made_with, plan.left.run, overwriting=overwriting)
        (tmp_path / "out").mkdir(exist_ok=True)
        for name in done:
            (tmp_path / "out" / name).write_bytes(b"a result")
        errors = dict.fromkeys(failed, "damaged")
        plan.records.add(plan.left.found)
        plan.records.add(
            Row(name, name, seconds=1.0, error=errors.get(name), run=plan.left.run)
            for name in (*done, *failed)
            if name in recorded
        )
        plan.records.flush()

    return work


def _todo(plan):
    return [item.target for item in plan.left.todo]


def test_results_that_an_interrupted_overwrite_has_not_replaced_are_not_taken_for_new_ones(
    plan, begin
):
    begin(plan("--steps", "5"))
    new = plan("--steps", "1", "--overwrite")
    assert _todo(new) == list(NAMES)
    begin(new, done=NAMES[:1], overwriting=True)
    with pytest.raises(
        UsageError, match="overwrite into out was interrupted; give --overwrite to cont"
    ):
        plan("--steps", "1")
    again = plan("--steps", "1", "--overwrite")
    assert _todo(again) == list(NAMES[1:])
    assert _todo(plan("--steps", "5", "--overwrite")) == list(NAMES)
    begin(again, done=NAMES[1:])  # ends
    assert _todo(plan("--steps", "1")) == []
    assert _todo(plan("--steps", "1", "--overwrite")) == list(NAMES)


def test_an_overwrite_does_again_what_no_row_tells_it_has_replaced(plan, begin):
    """Older results that a killed run did not record are not taken for new ones either."""
    begin(plan("--steps", "5"), recorded=NAMES[:1])
    new = plan("--steps", "1", "--overwrite")
    assert {(row.output, row.run) for row in new.left.found} == {(NAMES[1], ""), (NAMES[2], "")}
    begin(new, done=NAMES[:1], overwriting=True)
    assert _todo(plan("--steps", "1", "--overwrite")) == list(NAMES[1:])


def test_an_overwrite_that_was_killed_after_its_last_image_ends(plan, begin):
    new = plan("--steps", "1", "--overwrite")
    begin(new, overwriting=True)
    report = run_fleet(plan("--steps", "1", "--overwrite"))
    assert (report.done, report.skipped, report.stopped) == (0, 3, "")
    assert _todo(plan("--steps", "1")) == []


def test_an_overwrite_of_no_image_leaves_the_settings_of_the_earlier_run(plan, begin, tmp_path):
    begin(plan("--steps", "5"))
    settings = tmp_path / "out" / "_manifest" / "settings.json"
    before = settings.read_bytes()
    new = plan("--steps", "1", "--overwrite")
    empty = replace(new, inputs=replace(new.inputs, items=[]), left=replace(new.left, todo=[]))
    run_fleet(empty)
    assert settings.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ("--device", "cpu", "--precision", "bf16"),
        ("--precision", "nonsense"),
        ("--device", "cpu", "--tf32"),
        ("--device", "cpu", "--build", "level=5"),
    ],
)
def test_an_option_that_the_device_does_not_take_is_refused_before_anything_starts(
    plan, tmp_path, options
):
    with pytest.raises(UsageError, match=r"bf16 is not for|must be auto|TF32 is for|build"):
        plan(*options)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_pages_are_named_tiff_in_a_store_too(plan, tmp_path):
    pages = [Image.new("L", (16, 16), level) for level in (10, 200)]
    pages[0].save(tmp_path / "photos" / "pages.tif", save_all=True, append_images=pages[1:])
    assert _todo(plan(out="memory://named/out")) == [*NAMES, "pages.tif"]


def test_an_old_result_of_an_image_that_an_overwrite_could_not_do_is_named(plan, begin, tmp_path):
    begin(plan("--steps", "5"))
    begin(plan("--steps", "1", "--overwrite"), done=NAMES[1:], failed=NAMES[:1])
    with pytest.raises(
        UsageError, match=r"out/00.png was made by a run with other options; remove"
    ):
        plan("--steps", "1")
    (tmp_path / "out" / "00.png").unlink()
    assert _todo(plan("--steps", "1")) == ["00.png"]


def test_of_two_first_runs_into_one_folder_with_other_options_the_results_are_not_mixed(
    plan, begin
):
    one, two = plan("--steps", "5"), plan("--steps", "1")
    begin(one, done=NAMES[:1])
    begin(two, done=NAMES[1:])
    for steps in ("5", "1"):
        with pytest.raises(UsageError, match="to do all again"):
            plan("--steps", steps)


def test_results_with_tensorfloat_are_not_mixed_with_others(plan, begin):
    begin(plan("--device", "cuda"), done=NAMES[:1])
    assert _todo(plan("--device", "cuda")) == list(NAMES[1:])
    with pytest.raises(UsageError, match=r"with tf32 None, and tf32 is False now; give another"):
        plan("--device", "cuda", "--no-tf32")


def test_a_result_that_was_not_recorded_is_recorded_as_one_of_the_run_that_goes_on(plan, begin):
    first = plan("--steps", "1")
    begin(first, done=NAMES[:2], recorded=NAMES[:1])
    then = plan("--steps", "1")
    assert (_todo(then), then.left.run) == ([NAMES[2]], first.left.run)
    assert [(row.output, row.run) for row in then.left.found] == [(NAMES[1], first.left.run)]


def test_rows_do_not_depend_on_how_the_output_folder_is_spelled(plan, begin, read_rows, tmp_path):
    begin(plan())
    for out in ("./out", "out/", str(tmp_path / "out"), f"file://{tmp_path}/out"):
        again = plan(out=out)
        assert (again.left.todo, again.left.found) == ((), ())
    assert [row["output"] for row in read_rows(tmp_path / "out")] == list(NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_an_image_whose_name_no_manifest_holds_is_a_failure_and_not_the_end(plan, tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "photos" / "00.png").rename(tmp_path / "photos" / name)
    inputs = plan().inputs
    assert [item.target for item in inputs.items] == list(NAMES[1:])
    assert inputs.failures == [
        (f"photos/{name}", f"photos/{name} must have a name in UTF-8; rename it")
    ]


def test_what_killed_workers_left_is_removed_when_a_run_ends(plan, monkeypatch, tmp_path):
    """An unfinished file of a worker that died a minute ago, and one that may be another process's."""
    old, new = (tmp_path / "out" / f".dossr-{n:016x}.png" for n in range(2))

    def upscale(*_):
        old.parent.mkdir()
        for path in (old, new):
            path.write_bytes(b"half")
        minute_ago = time.time() - 60
        os.utime(old, (minute_ago, minute_ago))
        raise PlaceError("the disk is full")

    monkeypatch.setattr(upscaling, "_upscale", upscale)
    monkeypatch.setattr(upscaling, "connected", nullcontext)
    assert run_fleet(plan()).stopped == "the disk is full"
    assert (old.exists(), new.exists()) == (False, True)
