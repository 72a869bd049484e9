"""Damaged bundles, found by fuzzing: each is a BundleError or an EngineError of one line."""

import json
import os

import numpy as np
import pytest

from dossr.runtime import BundleError, EngineError, load_pipeline
from dossr.runtime.bundle import MANIFEST, sha256


def _edit(bundle, change):
    path = bundle / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _replace(bundle, name, data):
    """Replace the content of a bundle's file and update the manifest."""
    (bundle / name).write_bytes(data)
    record = {"size": len(data), "sha256": sha256(bundle / name)}
    _edit(bundle, lambda document: document["files"].update({name: record}))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("vae_factor", [4, 3, 5, 7, 64, 65536, 0, -2, 2.5, "2", None, True]),
        ("latent_channels", [5, 7, 1, 65536, 0, [6]]),
        ("size_multiple", [3, 5, 7, 4096, 65536, 2, 1, 0]),
        ("latent_scale", [0, -1, 1e300, "1"]),
        ("precision", ["int8", "", 16]),
    ],
)
def test_a_number_that_does_not_fit_the_networks_is_refused(demo, field, values):
    for value in values:
        _edit(demo, lambda document, value=value: document.update({field: value}))
        with pytest.raises(BundleError, match=r"^[^\n]*manifest\.json is damaged: [^\n]*$") as got:
            load_pipeline(demo)
        assert len(str(got.value)) < 600


@pytest.mark.parametrize(
    "schedule",
    [
        {"timesteps": 1000.5},
        {"timesteps": 2147483648},
        {"linear_start": 0.9, "linear_end": 0.99},
        {"linear_start": 0.0},
        {"linear_end": 1e400},
    ],
)
def test_a_schedule_that_cannot_be_sampled_is_refused(demo, schedule):
    _edit(demo, lambda document: document["schedule"].update(schedule))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged: "):
        load_pipeline(demo)


def test_a_factor_that_contradicts_the_networks_is_one_line(dossr_run, one_line, demo, photo):
    """The manifest is consistent: size_multiple 4 matches a VAE with factor 1. The network has another."""
    _edit(demo, lambda document: document.update(vae_factor=1))
    done = dossr_run(photo, "-o", photo.with_name("big.png"), "-b", demo)
    assert done.returncode == 1
    assert "the encoder must return [1, 6, 128, 128] by the manifest" in one_line(done.stderr)
    assert not photo.with_name("big.png").exists()


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("encoder", lambda stage: stage["outputs"].pop()),
        ("encoder", lambda stage: stage["outputs"].append(stage["outputs"][0])),
        ("decoder", lambda stage: stage["inputs"][0].update(name="y")),
        ("denoiser", lambda stage: stage["inputs"][0].update(dtype="int64")),
        ("denoiser", lambda stage: stage["inputs"][2].update(shape=["batch", 6, "h", "w"])),
        ("restorer", lambda stage: stage["inputs"][0].update(shape=["batch", -3, "h", "w"])),
    ],
)
def test_a_stage_must_have_the_inputs_and_outputs_that_are_used(demo, stage, change):
    _edit(demo, lambda document: change(document["stages"][stage]))
    with pytest.raises(BundleError, match=r"^[^\n]*manifest\.json is damaged: [^\n]*$"):
        load_pipeline(demo)


@pytest.mark.parametrize("name", [[], {}, None, 3])
@pytest.mark.parametrize("low_memory", [False, True])
def test_a_tensor_without_a_name_is_refused(demo, name, low_memory):
    _edit(demo, lambda document: document["stages"]["encoder"]["inputs"][0].update(name=name))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged: .*name"):
        load_pipeline(demo, low_memory=low_memory)


def test_a_loop_of_links_is_refused(demo):
    (demo / "decoder.cpu.onnx").unlink()
    (demo / "decoder.cpu.onnx").symlink_to("decoder.cpu.onnx")
    with pytest.raises(BundleError, match=r"^[^\n]*$"):
        load_pipeline(demo)


def test_a_network_that_is_another_is_one_line_also_when_it_is_opened_late(
    dossr_run, one_line, demo, photo
):
    def swap(document):
        stages = document["stages"]
        graphs = stages["encoder"]["graphs"], stages["decoder"]["graphs"]
        stages["decoder"]["graphs"], stages["encoder"]["graphs"] = graphs

    _edit(demo, swap)
    done = dossr_run(photo, "-o", photo.with_name("big.png"), "-b", demo, "--low-memory")
    assert done.returncode == 1
    assert "do not match the manifest" in one_line(done.stderr)


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_network_with_names_that_are_no_text_is_refused(demo, low_memory):
    data = (demo / "restorer.cpu.onnx").read_bytes()
    _replace(demo, "restorer.cpu.onnx", data.replace(b"restorer.weights", b"\xff\xfe" + b"." * 16))
    with pytest.raises(EngineError, match=r"^[^\n]*cannot open[^\n]*$"):
        load_pipeline(demo, low_memory=low_memory).upscale(np.zeros((8, 8, 3), np.uint8))


def test_a_manifest_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(BundleError, match="must be a regular file"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("name", ["encoder.weights", "encoder.cpu.onnx"])
def test_an_engine_that_does_not_open_is_one_line(dossr_run, one_line, demo, photo, name):
    _replace(demo, name, b"")
    done = dossr_run(photo, "-o", photo.with_name("big.png"), "-b", demo)
    assert done.returncode == 2
    assert "encoder.cpu.onnx" in one_line(done.stderr)
