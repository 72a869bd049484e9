"""dossr-run --seeds: the files of the single runs, the best of them, sheet, mean and spread."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import memory
from dossr.runtime.bundle import MANIFEST, read_manifest
from dossr.runtime.engines.device import Host
from dossr.runtime.images.source import Frame, SourceImage
from dossr.runtime.memory import image_bytes
from dossr.runtime.seeds.iqa import MeasureError
from dossr.runtime.seeds.measures import Measure


@pytest.fixture
def photo(tmp_path, make_image):
    make_image(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_draw_is_the_file_of_its_single_run(run, photo, tmp_path, files):
    code, stdout, _ = run(photo, "-o", tmp_path / "a/big.png", "--seed", 7, "--seeds", 3)
    assert code == 0
    assert files(tmp_path / "a") == ["big.seed7.png", "big.seed8.png", "big.seed9.png"]
    assert f"{tmp_path}/a/big.seed8.png  80 x 48  seed 8" in stdout
    assert stdout.splitlines()[-1].startswith(f"{photo}  3 seeds  ")
    for seed in (7, 8, 9):
        run(photo, "-o", tmp_path / "single.png", "--seed", seed, "--overwrite")
        single = (tmp_path / "single.png").read_bytes()
        assert (tmp_path / f"a/big.seed{seed}.png").read_bytes() == single


def test_mean_spread_and_sheet_are_those_of_the_draws(run, photo, tmp_path, files):
    options = ["--seeds", 4, "--mean", "--spread", "--sheet", "--json"]
    code, stdout, _ = run(photo, "-o", f"{tmp_path}/out/", *options)
    assert code == 0
    draws = np.stack([_pixels(tmp_path / f"out/photo.seed{42 + n}.png") for n in range(4)])
    np.testing.assert_array_equal(_pixels(tmp_path / "out/photo.mean.png"), np.rint(draws.mean(0)))
    (found,) = json.loads(stdout)["results"]
    assert found["spread"] == str(tmp_path / "out/photo.spread.png")
    white = found["spread_white"]
    spread = np.sqrt(draws.astype(float).var(0).mean(-1))
    shown = _pixels(tmp_path / "out/photo.spread.png")
    np.testing.assert_allclose(shown, np.minimum(spread / white, 1) * 255, atol=0.51)
    with Image.open(tmp_path / "out/photo.spread.png") as image:
        assert image.text["Description"] == (
            f"standard deviation over 4 seeds (42 to 45), white is {white} of 255 levels or more"
        )
    assert _pixels(tmp_path / "out/photo.sheet.png").shape[0] > 48
    scores = {draw["seed"]: draw["score"] for draw in found["draws"]}
    assert found["best_seed"] == max(scores, key=scores.get)
    assert found["output"] is None


def test_the_best_draw_gets_the_usual_name(run, photo, tmp_path, files):
    code, stdout, _ = run(photo, "-o", f"{tmp_path}/all/", "--seeds", 5, "--json")
    (everything,) = json.loads(stdout)["results"]
    best = max(everything["draws"], key=lambda draw: draw["score"])
    options = ["--seeds", 5, "--best", "agreement", "--json"]
    code, stdout, _ = run(photo, "-o", f"{tmp_path}/best/", *options)
    assert code == 0
    assert files(tmp_path / "best") == ["photo.png"]
    assert (tmp_path / "best/photo.png").read_bytes() == Path(best["output"]).read_bytes()
    (found,) = json.loads(stdout)["results"]
    assert found["output"] == str(tmp_path / "best/photo.png")
    assert (found["measure"], found["best_seed"]) == ("agreement", best["seed"])
    assert [d["score"] for d in found["draws"]] == [d["score"] for d in everything["draws"]]


def test_the_best_draw_can_go_to_standard_output(run_binary, photo):
    code, stdout, stderr = run_binary(photo, "-o", "-", "--seeds", 2, "--best", "agreement")
    assert code == 0
    assert stdout.startswith(b"\x89PNG")
    assert "the best of 2" in stderr


@pytest.fixture
def sampled(monkeypatch):
    """The number of networks runs of the decoder, in a list."""
    opened, real = [], Host.open

    def opening(self, bundle, name):
        engine = real(self, bundle, name)
        if name == "decoder":
            decode = engine.run
            engine.run = lambda **inputs: opened.append(name) or decode(**inputs)
        return engine

    monkeypatch.setattr(Host, "open", opening)
    return opened


def test_an_interrupted_run_samples_the_missing_draws_only(run, photo, tmp_path, sampled):
    out = tmp_path / "out"
    run(photo, "-o", f"{out}/", "--seeds", 4)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "photo.seed43.png").unlink()
    kept = (out / "photo.seed44.png").stat().st_mtime_ns
    sampled.clear()
    code, stdout, _ = run(photo, "-o", f"{out}/", "--seeds", 4, "--skip-existing")
    assert code == 0
    assert sampled == ["decoder"]
    assert "the best" not in stdout  # of one draw
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert (out / "photo.seed44.png").stat().st_mtime_ns == kept
    code, _, stderr = run(photo, "-o", f"{out}/", "--seeds", 4, "--skip-existing")
    assert "nothing to do" in stderr
    _, stdout, _ = run(photo, "-o", f"{out}/", "--seeds", 4, "--skip-existing", "--json")
    assert sorted(json.loads(stdout)["skipped"]) == sorted(map(str, out.iterdir()))


def test_a_missing_sheet_is_made_from_all_draws_and_they_are_kept(run, photo, tmp_path, sampled):
    out = tmp_path / "out"
    run(photo, "-o", f"{out}/", "--seeds", 3)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    sampled.clear()
    code, *_ = run(photo, "-o", f"{out}/", "--seeds", 3, "--sheet", "--skip-existing")
    assert code == 0
    assert sampled == ["decoder"] * 3
    assert (out / "photo.sheet.png").exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_folders_and_results_beside_their_sources(run, tmp_path, make_image, files):
    folder = tmp_path / "in"
    make_image(folder / "a.png")
    make_image(folder / "sub/b.jpg")
    assert run(folder, "-o", folder, "--seeds", 2, "--spread")[0] == 0
    results = ["a_upscaled.seed42.png", "a_upscaled.seed43.png", "a_upscaled.spread.png"]
    assert [name for name in files(folder) if name.startswith("a_")] == results
    names = files(folder)
    code, _, stderr = run(folder, "-o", folder, "--seeds", 2, "--spread", "--overwrite")
    assert code == 0
    assert "6 results of an earlier run" in stderr  # they are no sources of the next one
    assert files(folder) == names


def test_a_single_frame_only(run, tmp_path, files):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    code, _, stderr = run(tmp_path / "two.gif", "-o", f"{tmp_path}/out/", "--seeds", 2)
    assert code == 1
    assert "two.gif has 2 frames, and --seeds takes still images; pass --first-frame" in stderr
    code, *_ = run(tmp_path / "two.gif", "-o", f"{tmp_path}/out/", "--seeds", 2, "--first-frame")
    assert code == 0
    assert files(tmp_path / "out") == ["two.seed42.png", "two.seed43.png"]


def test_transparency_grey_and_16_bits_are_kept_in_draws_and_mean(run, tmp_path, make_image):
    make_image(tmp_path / "clear.png", mode="LA")
    assert run(tmp_path / "clear.png", "-o", f"{tmp_path}/o/", "--seeds", 2, "--mean")[0] == 0
    for name in ("seed42", "seed43", "mean"):
        with Image.open(tmp_path / f"o/clear.{name}.png") as image:
            assert image.mode == "LA"
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(tmp_path / "deep.png")
    options = ["--seeds", 2, "--best", "agreement", "--spread", "--json"]
    _, stdout, _ = run(tmp_path / "deep.png", "-o", f"{tmp_path}/o/", *options)
    assert json.loads(stdout)["results"][0]["depth"] == 16


def test_sizes_below_four_times_have_a_spread_of_their_own_size(run, photo, tmp_path, size_of):
    run(photo, "-o", f"{tmp_path}/o/", "--seeds", 2, "--spread", "--scale", 2)
    assert size_of(tmp_path / "o/photo.seed43.png") == (40, 24)
    assert size_of(tmp_path / "o/photo.spread.png") == (40, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--best", "agreement"], "--best is for several draws; give --seeds N, too"),
        (["--spread"], "--spread is for several draws; give --seeds N, too"),
        (["--seeds", 1001, "--sheet"], "--sheet shows at most 1000 draws, got --seeds 1001"),
        (["--seeds", 2, "--best", "beauty"], "--best: 'beauty' is "),
        (["--seeds", 2, "--compare", "page.html"], "--compare shows one result of each image"),
        (["--seeds", 0], "Invalid value for '--seeds'"),
    ],
)
def test_wrong_use_is_told_before_any_work(run, photo, tmp_path, options, message):
    code, _, stderr = run(photo, "-o", tmp_path / "o.png", *options)
    assert code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--seeds", 2], ["--seeds", 1], ["--seeds", 2, "--best", "agreement", "--mean"]]
)
def test_several_images_do_not_go_to_standard_output(run, photo, options):
    code, _, stderr = run(photo, "-o", "-", *options)
    assert code == 2
    assert "-o - takes one image" in stderr


def test_existing_draws_and_names_that_clash_are_refused(run, tmp_path, photo, make_image, files):
    make_image(tmp_path / "out/photo.seed43.png")
    code, _, stderr = run(photo, "-o", f"{tmp_path}/out/", "--seeds", 2)
    assert code == 2
    assert "photo.seed43.png exists" in stderr
    make_image(tmp_path / "in/a.png")
    make_image(tmp_path / "in/a.mean.png")
    options = ["--seeds", 2, "--best", "agreement", "--mean"]
    code, _, stderr = run(tmp_path / "in", "-o", tmp_path / "clash", *options)
    assert code == 2
    assert "two results would be named" in stderr
    assert not (tmp_path / "clash").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [("s.seed42.png", []), ("s.sheet.png", ["--best", "agreement", "--sheet"])],
)
def test_a_draw_or_a_sheet_never_replaces_the_source(run, tmp_path, make_image, name, options):
    source = make_image(tmp_path / name)
    before = source.read_bytes()
    code, _, stderr = run(source, "-o", tmp_path / "s.png", "--seeds", 1, "--overwrite", *options)
    assert code == 2
    assert f"{name} is an input and would be replaced; give another name to -o" in stderr
    assert source.read_bytes() == before


def test_a_dry_run_counts_the_files_and_the_memory_of_the_sums(run, photo, tmp_path):
    draws = [f"photo.seed{seed}.png" for seed in (42, 43, 44)]
    for extra, output, names in (
        ([], None, draws),
        (["--spread"], None, [*draws, "photo.spread.png"]),
        (["--best", "agreement", "--mean"], "photo.png", ["photo.png", "photo.mean.png"]),
    ):
        options = [photo, "-o", f"{tmp_path}/o/", "--seeds", 3, *extra, "--dry-run"]
        code, stdout, _ = run(*options, "--json")
        assert code == 0
        (row,) = json.loads(stdout)["plan"]
        assert row["output"] == (output and f"{tmp_path}/o/{output}")
        assert row["outputs"] == [f"{tmp_path}/o/{name}" for name in names]
        assert f"{tmp_path}/o/{names[0]} and {len(names) - 1} more" in run(*options)[1]
    assert not (tmp_path / "o").exists()


def test_an_image_without_a_score_fails_alone(run, tmp_path, make_image, monkeypatch, files):
    def stand_in(image, lr):
        if lr.shape[0] < 16:
            raise MeasureError("measure stand-in of pyiqa fails: too small")
        return 1.0

    monkeypatch.setattr(
        "dossr.runtime.cli.checks.open_measure", lambda name: Measure("stand-in", stand_in)
    )
    for name, height in (("a", 8), ("b", 16)):
        make_image(tmp_path / f"in/{name}.png", (16, height))
    options = ["--seeds", 2, "--best", "musiq", "--json"]
    code, stdout, stderr = run(tmp_path / "in", "-o", tmp_path / "out", *options)
    assert code == 1
    assert f"{tmp_path}/in/a.png: measure stand-in of pyiqa fails: too small" in stderr
    assert files(tmp_path / "out") == ["b.png"]
    failed, done = json.loads(stdout)["results"]
    assert "too small" in failed["error"]
    assert done["best_seed"] == 42


def test_a_full_disk_stops_an_image_and_names_it(run, photo, tmp_path, monkeypatch, sampled):
    def full(path, data, *, replace=True):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dossr.runtime.images.writer.write_whole", full)
    code, _, stderr = run(photo, "-o", f"{tmp_path}/o/", "--seeds", 30)
    assert code == 1
    assert "photo.seed42.png cannot be written: No space left on device" in stderr
    assert len(sampled) < 30
    assert not list((tmp_path / "o").iterdir())


def test_memory_that_runs_out_goes_on_with_smaller_batches(run, photo, tmp_path, monkeypatch):
    from dossr.runtime.errors import OutOfMemoryError
    from dossr.runtime.pipeline import Pipeline

    real, batches = Pipeline.draws, []

    def scarce(self, lr, options, seeds, **others):
        batches.append((options.tiling.batch, len(seeds)))
        draws = real(self, lr, options, seeds, **others)
        if options.tiling.batch > 1:
            yield next(draws)
            raise OutOfMemoryError("no memory")
        yield from draws

    monkeypatch.setattr(Pipeline, "draws", scarce)
    code, _, stderr = run(photo, "-o", f"{tmp_path}/o/", "--seeds", 4, "--batch", 4)
    assert code == 0
    assert batches == [(4, 4), (2, 3), (1, 2)]  # what is done is not done again
    assert "memory ran out; going on with tiles of 128 in batches of 2" in stderr
    assert len(list((tmp_path / "o").iterdir())) == 4


def test_memory_for_the_sums_is_counted_before_the_networks_run(
    run, photo, tmp_path, monkeypatch, toy_bundle
):
    source = SourceImage((Frame(np.zeros((12, 20, 3), np.uint8)),))
    manifest = read_manifest(toy_bundle / MANIFEST)
    need = image_bytes(manifest, source, [(80, 48)], depth=8, steps=5)
    monkeypatch.setattr(memory, "free_memory", lambda: need + 99)
    assert (
        run(photo, "-o", f"{tmp_path}/o/", "--seeds", 500, "--dry-run")[0] == 0
    )  # any number fits
    assert run(photo, "-o", f"{tmp_path}/o/", "--seeds", 2)[0] == 0
    code, _, stderr = run(photo, "-o", f"{tmp_path}/p/", "--seeds", 2, "--spread")
    assert code == 1
    assert "photo.png needs about 0.0 GB of memory, and" in stderr
    assert not (tmp_path / "p").exists()


def test_the_compare_page_shows_the_best_draw(run, photo, tmp_path):
    options = ["--seeds", 2, "--best", "agreement", "--compare", tmp_path / "page.html"]
    assert run(photo, "-o", f"{tmp_path}/o/", *options)[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "photo.png" in page
    assert "best of the seeds 42 to 43 by agreement" in page
    assert "seed 42" not in page
