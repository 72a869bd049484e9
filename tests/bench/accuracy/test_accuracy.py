"""dossr-bench accuracy: what it measures, on images where the answer is known."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("skimage")

from dossr.bench.accuracy.cli import accuracy
from dossr.bench.accuracy.measuring import Setting, bicubic, degrade, measure
from dossr.bench.accuracy.originals import photographs, read_originals
from dossr.bench.accuracy.report import table
from dossr.bench.metrics import luma, psnr, score
from dossr.runtime import load_pipeline
from dossr.runtime.errors import OutOfMemoryError
from dossr.runtime.seeds.iqa import MeasureError


@pytest.fixture(scope="module")
def photograph():
    return photographs()["astronaut"][100:228, 150:278]


def test_an_image_equals_itself(photograph):
    scores = score(photograph, photograph)
    assert scores.psnr_y == np.inf
    assert scores.ssim == pytest.approx(1.0)
    assert scores.detail == pytest.approx(1.0)
    assert scores.gradients == 0.0


def test_psnr_of_a_known_error():
    """Grey 100 against grey 110: luma differs by 10 * (235 - 16) / 255."""
    a, b = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 110, np.uint8)
    assert np.ptp(luma(a)) == pytest.approx(0.0, abs=1e-9)
    difference = 10 * 219 / 255
    assert psnr(luma(a), luma(b)) == pytest.approx(20 * np.log10(255 / difference), abs=1e-3)


def test_blur_takes_detail_and_noise_adds_it(photograph):
    small = Image.fromarray(photograph).resize((32, 32), Image.Resampling.BOX)
    soft = score(np.asarray(small.resize((128, 128), Image.Resampling.BICUBIC)), photograph)
    noise = np.random.default_rng(0).normal(0.0, 12.0, photograph.shape)
    harsh = score(np.clip(photograph + noise, 0, 255).astype(np.uint8), photograph)
    assert soft.detail < 0.7 < 1.1 < harsh.detail
    assert min(soft.gradients, harsh.gradients) > 0.5
    assert soft.ssim < 1.0 > harsh.ssim


def test_gradients_ask_how_many_edges_and_not_where(photograph):
    turned = np.ascontiguousarray(photograph.transpose(1, 0, 2))
    assert score(turned, photograph).gradients < 1e-9
    assert score(turned, photograph).ssim < 0.5


def test_images_of_two_sizes_cannot_be_compared(photograph):
    with pytest.raises(ValueError, match="cannot be compared"):
        score(photograph, photograph[:-4])


def test_every_method_and_setting_is_measured_on_every_image(photograph):
    settings = [Setting(3, 1), Setting(1, 2), Setting(3, 2, t1=333), Setting(3, 1, detail=0.0)]
    made = []
    entries = measure(
        load_pipeline(), {"a": photograph, "b": photograph[:64]}, settings, 0, made.append
    )
    assert [entry.method for entry in entries] == ["bicubic", "restorer"] + ["pipeline"] * 4
    assert [entry.setting for entry in entries[2:]] == settings
    assert sum(made) == 2 * (len(settings) + 2)
    for entry in entries:
        assert set(entry.images) == {"a", "b"}
        mean = np.mean([scores.psnr_y for scores in entry.images.values()])
        assert entry.scores.psnr_y == pytest.approx(mean)
    without, restorer = entries[-1].scores, entries[1].scores
    assert without.psnr_y == restorer.psnr_y  # without detail, the image is the restorer's
    assert without.ssim == pytest.approx(restorer.ssim)
    plain = score(bicubic(degrade(photograph, 0, 0)), photograph)
    assert entries[0].images["a"] == plain


def test_originals_are_trimmed_and_named(tmp_path, photograph):
    (tmp_path / "sub").mkdir()
    Image.fromarray(photograph[:99, :70]).save(tmp_path / "sub" / "x.png")
    assert {n: p.shape for n, p in read_originals(tmp_path, 64).items()} == {
        "sub/x.png": (64, 64, 3)
    }
    assert read_originals(tmp_path, 512)["sub/x.png"].shape == (96, 68, 3)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "must have images"),
        (lambda folder: (folder / "x.png").write_bytes(b"no image"), "cannot read"),
        (lambda folder: Image.new("RGB", (8, 80)).save(folder / "x.png"), "at least 64 pixels"),
    ],
)
def test_a_folder_without_sound_originals_is_one_line(tmp_path, prepare, message):
    prepare(tmp_path)
    done = CliRunner().invoke(accuracy, [str(tmp_path)])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_leaves_a_table_a_plot_and_comparisons(tmp_path, photograph):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, side in (("accuracy.png", 128), ("sub/accuracy.png", 64)):
        Image.fromarray(photograph[:side, :side]).save(tmp_path / "in" / name)
    out = tmp_path / "out"
    arguments = [str(tmp_path / "in"), "--orders", "3", "--steps", "1", "--steps", "2"]
    done = CliRunner().invoke(
        accuracy, [*arguments, "--t1", "333", "--detail", "0.5", "--out", str(out)]
    )
    assert done.exit_code == 0, done.stderr
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    report = {"accuracy.json", "accuracy.md", "accuracy.png"}
    shown = {"accuracy.png.png", "accuracy.png-dial.png"}
    assert names == report | shown | {f"sub/{name}" for name in shown}
    document = json.loads((out / "accuracy.json").read_text())
    assert [entry["method"] for entry in document["entries"]][:2] == ["bicubic", "restorer"]
    assert "333" in done.stdout
    assert (out / "accuracy.md").read_text() in done.stdout + "\n"
    with Image.open(out / "accuracy.png.png") as sheet:
        assert sheet.size == (4 * 132 - 4, 128 + 18)
    with Image.open(
        out / "sub" / "accuracy.png-dial.png"
    ) as sheet:  # released, start 333, detail 0.5
        assert sheet.size == (3 * 68 - 4, 64 + 18)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--t1", "4"], "4 is not in the range 6<=x<=1000"),
        (["--out", "{photo}/out"], "cannot write to"),
    ],
)
def test_wrong_use_is_told_before_anything_is_measured(
    tmp_path, photograph, arguments, message, monkeypatch
):
    photo = tmp_path / "face.png"
    Image.fromarray(photograph[:64, :64]).save(photo)
    monkeypatch.setattr("dossr.bench.accuracy.cli._measured", None)
    done = CliRunner().invoke(
        accuracy, [str(tmp_path), *(each.format(photo=photo) for each in arguments)]
    )
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_metrics_of_pyiqa_are_columns_and_means(photograph):
    class Brightness:
        name, needs_original = "brightness", False

        def __call__(self, image):
            return float(image.mean())

    class Difference:
        name, needs_original = "difference", True

        def __call__(self, image, original):
            return float(np.abs(image.astype(float) - original).mean())

    metrics = [Brightness(), Difference()]
    assert score(photograph, photograph, metrics).metrics["difference"] == 0.0
    originals = {"a": photograph, "b": photograph[:64]}
    entries = measure(load_pipeline(), originals, [Setting(3, 1)], 0, lambda count: None, metrics)
    for entry in entries:
        by_image = [scores.metrics["brightness"] for scores in entry.images.values()]
        assert entry.scores.metrics["brightness"] == pytest.approx(np.mean(by_image))
    head, _, first, *_ = table(entries).splitlines()
    assert head.endswith("| brightness | difference |")
    assert first.count("|") == head.count("|")


def test_an_image_that_a_metric_refuses_is_named(tmp_path, photograph, monkeypatch):
    class StandIn:
        name, needs_original = "stand-in", False

        def __call__(self, image):
            raise MeasureError("measure stand-in of pyiqa fails: too small")

    monkeypatch.setattr("dossr.bench.accuracy.cli.open_metric", lambda name: StandIn())
    Image.fromarray(photograph[:64, :64]).save(tmp_path / "face.png")
    done = CliRunner().invoke(accuracy, [str(tmp_path), "--metric", "musiq"])
    assert done.exit_code == 1
    assert "face.png, bicubic: measure stand-in of pyiqa fails: too small" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_network_without_memory_is_one_line(toy_bundle, photograph, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OutOfMemoryError("the decoder ran out of memory")

    monkeypatch.setattr("dossr.bench.accuracy.measuring.measure", fail)
    Image.fromarray(photograph[:64, :64]).save(tmp_path / "face.png")
    done = CliRunner().invoke(accuracy, [str(tmp_path), "-b", str(toy_bundle)])
    assert done.exit_code == 1
    assert done.stderr == (
        "accuracy: a network failed: the decoder ran out of memory; give a smaller --size\n"
    )


def test_an_unknown_metric_is_wrong_use(tmp_path):
    done = CliRunner().invoke(accuracy, ["--metric", "beauty", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "--metric: 'beauty' is " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
