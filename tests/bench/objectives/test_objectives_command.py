"""``dossr-bench objectives``: every variant with its own sampler, one table, resumed, refused in one line."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

torch = pytest.importorskip("torch")

from dossr.bench.cli import main  # noqa: E402
from dossr.bench.objectives.rows import ROWS  # noqa: E402
from dossr.bench.objectives.scoring import (  # noqa: E402
    REFERENCES,
    Judged,
    Results,
    judge,
    score_variant,
)
from dossr.bench.objectives.tradeoff import agreeing  # noqa: E402
from dossr.bench.objectives.variant import Variant, read_variant  # noqa: E402
from dossr.bench.systems.dossr import dos_sde  # noqa: E402
from dossr.export.demo_training.recipe import OBJECTIVES  # noqa: E402
from dossr.export.demo_training.run import recover_checkpoint  # noqa: E402
from dossr.export.exporter import export_bundle  # noqa: E402
from dossr.runtime.bundle import open_bundle  # noqa: E402
from dossr.runtime.bundle.integrity import DEMO  # noqa: E402
from dossr.runtime.pipeline import load_pipeline  # noqa: E402
from dossr.runtime.sampling import draw_noise  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training folder with the demo model under the names of two objectives."""
    folder = tmp_path_factory.mktemp("training")
    recover_checkpoint(folder, open_bundle(DEMO))
    _copy(folder, "flow", "flow")
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory, lr):
    folder = tmp_path_factory.mktemp("originals")
    enlarged = Image.fromarray(lr[:16, :20]).resize((80, 64), Image.Resampling.BICUBIC)
    enlarged.save(folder / "one.png")
    return folder


@pytest.fixture(scope="module")
def lr():
    return np.random.default_rng(0).integers(0, 256, (20, 23, 3), np.uint8)


def _copy(folder, name, stated):
    """Give the demo model another objective's name; ``stated`` is what its YAML file says."""
    shutil.copy(folder / "demo.ckpt", folder / f"demo-{name}.ckpt")
    said = (folder / "demo.yaml").read_text().replace("objective: dossr", f"objective: {stated}")
    (folder / f"demo-{name}.yaml").write_text(said)


def _run(*arguments):
    return CliRunner().invoke(main, ["objectives", *map(str, arguments)])


def test_a_run_writes_table_picture_and_images_and_resumes(
    tmp_path, folder, originals, monkeypatch
):
    arguments = (
        folder,
        originals,
        "--objective",
        "dossr",
        "--objective",
        "flow",
        "--out",
        tmp_path,
    )
    result = _run(*arguments)
    assert result.exit_code == 0, result.output
    titles = [row.title for row in ROWS if row.objective in ("dossr", "flow")]
    lines = [line.split("|")[1].strip() for line in result.output.splitlines() if "|" in line]
    assert lines[-len(titles) - 2 :] == ["bicubic", "restorer", *titles]
    assert (tmp_path / "objectives.md").read_text().strip() in result.output
    document = json.loads((tmp_path / "objectives.json").read_text())
    assert set(document["checkpoints_sha256"]) == {"dossr", "flow"}
    assert document["provenance"]["cpu"]
    assert len(document["entries"]) == len(titles) + 2
    assert (tmp_path / "objectives.png").stat().st_size > 0
    assert (tmp_path / "images" / "one.png" / "sheet.png").is_file()

    def again(*_):
        raise AssertionError("must not run again")

    monkeypatch.setattr(Variant, "sample", again)
    monkeypatch.setattr(Variant, "encode", again)
    assert _run(*arguments).output.split("|", 1)[1] == result.output.split("|", 1)[1]


def test_dossr_in_torch_is_the_runtime(folder, lr, monkeypatch):
    """With the runtime's noise, the row of DoSSR is the image of dossr-run, within two levels."""
    shape = (1, 6, 40, 48)
    drawn = [torch.from_numpy(each) for each in draw_noise(3, 5, shape)]
    monkeypatch.setattr(
        "dossr.bench.objectives.variant.Noise",
        lambda _seed: type("Drawn", (), {"normal": lambda _self, *_shape: drawn.pop(0)})(),
    )
    variant = read_variant(folder, "dossr")
    ours = variant.sample(variant.encode(lr), dos_sde(5, 3).sample, 3)
    theirs = load_pipeline().upscale(lr, steps=5, order=3, seed=3)
    assert not drawn
    assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_a_folder_without_the_objective_is_refused_in_one_line(tmp_path, folder):
    result = _run(folder, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "objective ddpm" in result.output.splitlines()[-1]
    assert "--objective ddpm" in result.output.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_model_under_another_objectives_name_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "f")
    _copy(tmp_path / "f", "resshift", "ddpm")
    result = _run(tmp_path / "f", "--objective", "resshift", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "trained for the objective resshift" in result.output.splitlines()[-1]
    assert "states ddpm" in result.output.splitlines()[-1]


def test_no_bundle_is_made_of_another_objective(folder, tmp_path):
    """dossr-run would sample it wrongly."""
    with pytest.raises(
        ValueError, match="objective dossr, and the YAML file states flow"
    ) as caught:
        export_bundle(
            folder / "demo-flow.ckpt", tmp_path / "bundle", config=folder / "demo-flow.yaml"
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_every_objective_has_a_row_and_the_papers_figure():
    assert {row.objective for row in ROWS} == set(OBJECTIVES)
    assert [row.paper for row in ROWS[:2]] == [0.5781, 0.5115]


def test_pairs_in_the_papers_order_are_counted():
    """All of them where a measure falls with the paper's; none where it rises."""
    ranked = sorted(ROWS, key=lambda row: row.paper)
    scores = {
        row: Judged(30.0 - i, 0.5, i / 10, i / 10, None, edges=i / 10)
        for i, row in enumerate(ranked)
    }
    found = [agreeing(scores, name) for name in ("detail", "edges", "psnr_y", "gradients", "ssim")]
    assert found == [28, 28, 0, 0, 0]


def test_grain_is_detail_out_of_place():
    """It raises the gradient energy and lowers the correlation of edges."""
    path = Path(__file__).parents[2] / "images" / "astronaut.png"
    sharp = np.asarray(Image.open(path).convert("RGB"))
    grain = np.random.default_rng(0).normal(0, 12, sharp.shape)
    grainy = np.clip(sharp + grain, 0, 255).astype(np.uint8)
    clean, noisy = judge(sharp, sharp), judge(grainy, sharp)
    assert (clean.detail, clean.edges) == pytest.approx((1.0, 1.0))
    assert noisy.detail > 1.1
    assert noisy.edges < 0.95


@pytest.fixture
def reruns(tmp_path, monkeypatch):
    """reruns(sources, *images) scores images without a sampler in one folder; the keys of its scores."""
    hr = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    restored = torch.from_numpy(hr[:1].transpose(0, 3, 1, 2) / 255.0)
    encoded = SimpleNamespace(restored=restored, height=64, width=64)
    variant = SimpleNamespace(common="", encode=lambda lr: encoded)

    def run(sources, *names):
        results = Results(tmp_path, sources)
        originals = {name: hr[int(name)] for name in names}
        score_variant(variant, (), originals, 0, results, lambda n: None)
        results.keep(REFERENCES, originals)
        return {(e.method, e.image): e.key for e in results.entries}

    return run


def test_scores_of_another_degradation_or_other_sources_are_made_again(reruns):
    """The degradation depends on an image's place among the originals."""
    first = reruns("a", "1")
    assert reruns("a", "1") == first
    moved = reruns("a", "0", "1")
    assert moved["bicubic", "1"] != first["bicubic", "1"]
    assert set(reruns("b", "0", "1").values()).isdisjoint(moved.values())
    assert reruns("a", "1") == first  # without the image that is no longer there
