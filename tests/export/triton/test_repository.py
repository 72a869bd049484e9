"""``dossr-export --triton``: what it writes, and what it refuses before it writes."""

import shutil

import pytest
from click.testing import CliRunner

from dossr.export.cli import main
from dossr.export.triton.config import config_text
from dossr.export.triton.repository import write_repository
from dossr.export.triton.serve_settings import parse_serve
from dossr.runtime.bundle import DEMO, open_bundle, read_manifest
from dossr.runtime.serving.inputs import INPUTS


@pytest.fixture
def export(capfd):
    """export(*arguments) runs dossr-export and returns its exit code and its last line."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main([str(argument) for argument in arguments], prog_name="dossr-export")
        captured = capfd.readouterr()
        return ended.value.code or 0, (captured.out + captured.err).strip()

    return run


def test_the_repository_holds_all_it_needs(export, fresh_bundle, tmp_path):
    code, line = export(fresh_bundle, "--triton", tmp_path / "models")
    model = tmp_path / "models" / "dossr"
    assert (code, line.startswith(f"{model}: for cpu, ")) == (0, True)
    moved = shutil.copytree(model, tmp_path / "elsewhere" / "dossr")
    shutil.rmtree(fresh_bundle)
    shutil.rmtree(model)
    assert open_bundle(moved / "1" / "bundle").manifest.checkpoint == "toy"
    assert not any(path.is_symlink() for path in moved.rglob("*"))
    assert (moved / "warmup" / "pixels").stat().st_size == 128 * 128 * 3
    assert str(tmp_path) not in (moved / "config.pbtxt").read_text()


def test_the_bundle_takes_no_space_twice(fresh_bundle, tmp_path):
    model = write_repository(open_bundle(fresh_bundle), tmp_path / "models", parse_serve([]))
    for path in fresh_bundle.iterdir():
        assert (model / "1" / "bundle" / path.name).samefile(path)


def test_a_model_is_replaced_only_when_asked(export, fresh_bundle, tmp_path):
    models = tmp_path / "models"
    assert export(fresh_bundle, "--triton", models)[0] == 0
    other = models / "other"
    other.mkdir()
    code, line = export(fresh_bundle, "--triton", models)
    assert code == 2
    assert line.endswith("exists; pass --overwrite, or --serve name=MODEL")
    again = export(fresh_bundle, "--triton", models, "--overwrite", "--serve", "batch=2")
    assert again[0] == 0
    assert '"batch" value { string_value: "2" }' in (models / "dossr" / "config.pbtxt").read_text()
    code, line = export(fresh_bundle, "--triton", models, "--overwrite", "--serve", "name=other")
    assert code == 0  # an empty folder
    (models / "keep").mkdir()
    (models / "keep" / "photo.png").touch()
    code, line = export(fresh_bundle, "--triton", models, "--overwrite", "--serve", "name=keep")
    assert (code, "must be a model to be overwritten" in line) == (2, True)
    assert (models / "keep" / "photo.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--serve", "batch=2"], "--serve is for a model repository; add --triton DIR"),
        (["--triton", "m", "--serve", "batch=0"], "a setting must be device=NAME"),
        (["--triton", "m", "--serve", "device=tpu"], "a setting must be device=NAME"),
        (["--triton", "m", "--serve", "name=../x"], "a setting must be device=NAME"),
        (["--triton", "m", "--serve", "batch=2", "--serve", "batch=4"], "got batch twice"),
        (["--triton", "m", "--serve", "device=cuda"], "device=cuda needs graphs for cuda, and the bundle has"),
        (["--triton", "m", "--serve", "precision=fp61"], "precision must be auto, fp32, bf16, int8 or STAGE"),
        (["--triton", "m", "--serve", "precision=bf16"], "precision bf16 is not for the device cpu, which"),
        (["--triton", "m", "--serve", "device=openvino", "--serve", "precision=bf16,vae=fp32"],
         "precision names a stage 'vae'; this bundle has restorer, "),
        (["--triton", "m", "--serve", "device=openvino", "--serve", "precision=int8"],
         "precision=int8 needs an int8 network for a stage, and the bundle has none; add what can be had"),
        (["--triton", "m", "--serve", "tile=72"], "tile must be 0 or a multiple of 16"),
        (["--triton", "m", "--serve", "tile=64", "--serve", "overlap=64"], "below the tile's 64, got 64"),
        (["--triton", "m", "--serve", "max_pixels=10000"], "max_pixels must be at least 16384, a tile, "),
        (["--triton", "m", "--steps", "3"], "a finished bundle takes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(
    export, fresh_bundle, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dossr.export.cli._build", pytest.fail)  # it may take hours
    code, line = export(fresh_bundle, *options)
    assert code == 2
    assert message in line
    assert "\n" not in line
    assert not (tmp_path / "m" / "dossr").exists()


@pytest.mark.parametrize(
    ("target", "setting", "message"),
    [
        ("cpu", "tile=64", "device=openvino needs graphs for openvino"),
        ("openvino", "precision=int8", "precision=int8 needs int8 networks; pass --int8, too"),
        ("openvino", "overlap=128", "overlap must be below the tile's 128, got 128"),
        ("openvino", "precision=vae=fp32", "precision names a stage 'vae'"),
    ],
)
def test_a_checkpoint_is_not_exported_for_a_model_that_cannot_be_made(
    export, tmp_path, target, setting, message
):
    (tmp_path / "model.ckpt").write_bytes(b"not read")
    serve = ("--serve", "device=openvino", "--serve", setting)
    code, line = export(tmp_path / "model.ckpt", "-o", tmp_path / "bundle", "--target", target,
                        "--triton", tmp_path / "models", *serve)  # fmt: skip
    assert (code, message in line) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


def test_a_device_of_one_version_of_tensorrt_needs_the_graphs_for_it():
    rtx, plain = (parse_serve([f"device={name}"]) for name in ("tensorrt-rtx", "tensorrt"))
    plain.check_export(["cpu", "tensorrt-10.3"], int8=False)
    with pytest.raises(
        ValueError, match=r"^device=tensorrt-rtx needs graphs for tensorrt, and the b"
    ):
        rtx.check_export(["cpu", "tensorrt-10.3"], int8=False)


def test_the_help_names_every_setting():
    text = CliRunner().invoke(main, ["--help"]).output
    for name in ("device=NAME", "instances=N", "max_pixels=N", "timeout=SECONDS"):
        assert name in text


def _config(*settings):
    return config_text(read_manifest(DEMO / "manifest.json"), parse_serve(settings))


def test_gpus_get_instances_each_and_processors_in_all():
    assert "instance_group { kind: KIND_GPU count: 2 }" in _config("device=cuda", "instances=2")
    assert "instance_group { kind: KIND_GPU count: 1 }" in _config("device=tensorrt-rtx")
    assert "instance_group { kind: KIND_CPU count: 3 }" in _config("device=openvino", "instances=3")


def test_the_configuration_says_what_was_asked():
    text = _config("queue=5", "timeout=1.5", "tile=64", "precision=bf16,decoder=fp32")
    for line in (
        "default_timeout_microseconds: 1500000",
        "max_queue_size: 5",
        "dims: [ 64, 64, 3 ]",
        'parameters { key: "precision" value { string_value: "bf16,decoder=fp32" } }',
        "response_cache { enable: false }",
    ):
        assert line in text
    assert "dynamic_batching" not in _config("queue=0", "timeout=0")
    assert all(f'input {{ name: "{each.name}"' in text for each in INPUTS)
