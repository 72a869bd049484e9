"""dossr-export BUNDLE --int8 on the demo bundle, in OpenVINO."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dossr.export.cli import main
from dossr.export.errors import VerificationError
from dossr.export.quantization import add, check_int8, search
from dossr.export.quantization.add import add_int8
from dossr.runtime import load_pipeline
from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines.openvino.golden_errors import BOUNDS
from dossr.runtime.terminal import Silent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The demo bundle with int8 networks."""
    folder = tmp_path_factory.mktemp("int8") / "demo"
    shutil.copytree(DEMO, folder)
    add_int8(folder)
    return folder


@pytest.fixture(scope="module")
def photo():
    path = DEMO.parents[1] / "tests" / "images" / "astronaut.png"
    return np.asarray(Image.open(path).convert("RGB"))[16:80, 32:96]


def test_most_products_are_in_8_bits_and_near_float32(bundle):
    stages = open_bundle(bundle, again=True).manifest.stages
    assert [name for name, record in stages.items() if record.int8] == ["restorer", "denoiser"]
    for name in ("restorer", "denoiser"):
        record = stages[name].int8
        assert record.held < record.products / 5
        assert record.error <= search.AIM * BOUNDS[name]
        size = (bundle / record.weights).stat().st_size
        float16 = (bundle / stages[name].weights).stat().st_size
        assert size < 0.6 * float16


def test_the_image_is_38_db_from_fp32_and_not_the_same(bundle, photo):
    images = {}
    for precision in ("fp32", "int8"):
        pipeline = load_pipeline(bundle, "openvino", precision=precision, log=lambda line: None)
        images[precision] = pipeline.upscale(photo).astype(float)
    assert pipeline.precision["denoiser"] == "int8"
    error = np.mean((images["int8"] - images["fp32"]) ** 2)
    assert error > 0
    assert 10 * np.log10(255**2 / error) >= 38


def test_other_devices_run_the_bundle_as_before(bundle, photo):
    np.testing.assert_array_equal(
        load_pipeline(bundle).upscale(photo[:16, :16], steps=1),
        load_pipeline().upscale(photo[:16, :16], steps=1),
    )


def test_a_failed_or_stopped_search_leaves_the_bundle_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(add, "record_inputs", lambda *_: _few_inputs(folder))
    monkeypatch.setattr(search, "MOST_HELD", 0)
    notes = _Notes()
    with pytest.raises(VerificationError, match="no stage of this checkpoint keeps its accuracy"):
        add_int8(folder, notes)
    assert re.fullmatch(
        r"the restorer in int8 must be within 8\.0e-03 of float32 with 0 of its 51 products in float, "
        r"got .*; it is left out",
        notes.told[0],
    )
    assert len(notes.told) == 2
    monkeypatch.setattr(search, "measure_costs", stop)
    with pytest.raises(KeyboardInterrupt):
        add_int8(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not (folder / "int8").exists()


class _Notes(Silent):
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)


def _few_inputs(folder):
    """Golden inputs in place of upscaled images."""
    bundle = open_bundle(folder)
    runs = {stage: [bundle.golden(stage)[0].inputs] for stage in bundle.manifest.stages}
    return [runs, runs]


def test_the_command_says_what_it_made(bundle, monkeypatch):
    monkeypatch.setattr(add, "add_int8", lambda folder, _: open_bundle(folder).manifest)
    done = CliRunner().invoke(main, [str(bundle), "--int8"])
    assert done.exit_code == 0
    made = open_bundle(bundle).manifest.stages["restorer"].int8
    count = f"{made.products - made.held} of {made.products}"
    assert done.stdout.startswith(f"restorer in int8: {count} products, error ")


@pytest.fixture
def no_stage_passes(monkeypatch):
    """The outcome at the official size with synthetic weights."""

    def fail(*_):
        raise VerificationError("no stage of this checkpoint keeps its accuracy in int8")

    monkeypatch.setattr(add, "add_int8", fail)


def test_an_export_whose_stages_all_stay_in_float_ends_as_without_int8(
    tmp_path, monkeypatch, no_stage_passes
):
    def export(_, out, **__):
        shutil.copytree(DEMO, out)
        return open_bundle(out).manifest

    monkeypatch.setattr("dossr.export.export_bundle", export)
    checkpoint, models = tmp_path / "full.ckpt", tmp_path / "models"
    checkpoint.touch()
    words = [checkpoint, "-o", tmp_path / "demo", "--int8", "--triton", models]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [
        "note: no stage of this checkpoint keeps its accuracy in int8; "
        "the bundle is complete without"
    ]
    assert list(models.glob("*/config.pbtxt"))


def test_a_finished_bundle_whose_stages_all_stay_in_float_is_an_error(no_stage_passes):
    done = CliRunner().invoke(main, [str(DEMO), "--int8"])
    assert done.exit_code == 1
    assert done.stderr == ("dossr-export: no stage of this checkpoint keeps its accuracy in int8\n")


def test_a_bundle_without_graphs_for_openvino_names_the_target(tmp_path):
    with pytest.raises(
        ValueError, match=r"int8 needs the graphs for openvino, got cpu, cuda; add --t"
    ):
        check_int8(["cpu", "cuda"])
    folder = tmp_path / "demo"
    shutil.copytree(DEMO, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for stage in manifest["stages"].values():
        del stage["graphs"]["openvino"]
    manifest["files"].pop("denoiser.openvino.onnx")
    (folder / "denoiser.openvino.onnx").unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = CliRunner().invoke(main, [str(folder), "--int8"])
    assert done.exit_code == 2
    assert "int8 needs the graphs for openvino" in done.stderr
