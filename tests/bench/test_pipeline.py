"""dossr-bench pipeline: the released procedure in torch against its bundle."""

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from dossr.bench.pipeline import pipeline


def _run(*arguments):
    return CliRunner().invoke(pipeline, list(map(str, arguments)))


def test_both_sides_give_the_same_picture(checkpoints, bundles, golden, tmp_path):
    """Same weights, same noise: at most a rounding apart; times and memory are there."""
    arguments = ("--config", golden / "tiny.yaml", "--size", 16, "--steps", 2, "--repetitions", 2)
    file = tmp_path / "pipeline.json"
    bundle = bundles("separate")
    done = _run(checkpoints / "separate.ckpt", "-b", bundle, *arguments, "--json", file)
    assert done.exit_code == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["largest"] <= 1
    assert found["psnr"] > 60
    for side in (found["reference"], found["bundle"]):
        assert len(side["seconds"]) == 2
        assert min(side["seconds"]) > 0
        assert side["peak_bytes"] > 2**20
    assert found["provenance"]["commit"]
    assert "picture, median (s)" in done.stdout


def test_a_bundle_of_another_checkpoint_is_refused(checkpoints, bundles, golden):
    config = golden / "tiny.yaml"
    done = _run(checkpoints / "shared.ckpt", "-b", bundles("separate"), "--config", config)
    assert done.exit_code == 2
    assert "must be the export of" in done.stderr


def test_a_size_that_the_released_script_cannot_take_is_refused(checkpoints, bundles, golden):
    config = golden / "tiny.yaml"
    bundle = bundles("separate")
    done = _run(checkpoints / "separate.ckpt", "-b", bundle, "--config", config, "--size", 20)
    assert done.exit_code == 2
    assert "--size must be a multiple of 16" in done.stderr
