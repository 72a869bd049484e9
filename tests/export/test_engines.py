"""dossr-export --engine, with NVIDIA's compiler; it needs no GPU."""

import shutil
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from dossr.export.cli import main
from dossr.export.engines import EngineRequest, build_engines, parse_request
from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines.device import Host
from dossr.runtime.engines.tensorrt.options import BuildOptions


def _run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def demo(tmp_path):
    return shutil.copytree(DEMO, tmp_path / "demo")


def test_a_request_is_a_library_and_a_list_of_gpus():
    assert parse_request("tensorrt") == EngineRequest("tensorrt")
    assert parse_request("tensorrt-rtx:sm86,sm89") == EngineRequest(
        "tensorrt-rtx", ("sm86", "sm89")
    )
    for wrong in ("cuda", "", "tensorrt-rtx:", "tensorrt-rtx:sm86,", "tensorrt:sm86"):
        with pytest.raises(ValueError, match=rf"^engine must be .*got '{wrong}'$"):
            parse_request(wrong)


def test_a_finished_bundle_gets_engines_and_keeps_those_it_has(demo):
    pytest.importorskip("tensorrt_rtx")
    arguments = (demo, "--engine", "tensorrt-rtx:sm89,sm120", "--tile", 16)
    done = _run(*arguments)
    assert done.exit_code == 0, done.stderr
    engines = sorted((demo / "engines").glob("*.engine"))
    assert [engine.name.split("-")[0] for engine in engines] == [
        "decoder",
        "denoiser",
        "encoder",
        "restorer",
    ]
    assert all(".sm89-sm120.tensorrt-rtx.engine" in engine.name for engine in engines)
    times = [engine.stat().st_mtime_ns for engine in engines]
    assert _run(*arguments).exit_code == 0
    assert [engine.stat().st_mtime_ns for engine in engines] == times


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (),
            "a finished bundle takes --engine (with it --build and --tile), --int8, --debug and --triton",
        ),
        (("--engine", "tensorrt-rtx:sm89", "--fp16"), "a finished bundle takes --engine"),
        (("--engine", "tensorrt-rtx:sm89", "-o", "x"), "a finished bundle takes --engine"),
        (("--engine", "gpu"), "engine must be tensorrt, tensorrt-rtx or tensorrt-rtx:sm86,sm89"),
        (("--engine", "tensorrt-rtx:sm89", "--build", "fast"), "an engine setting must be"),
        (("--debug", "--build", "level=5"), "--build and --tf32 are for engines; add --engine"),
        (("--debug", "--tile", "64"), "a finished bundle takes --engine (with it --build"),
        (
            ("--engine", "tensorrt", "--build", "sides=64:128:192", "--tile", "64"),
            "--tile must be left out with --build sides",
        ),
        (
            ("--engine", "tensorrt", "--build", "level=1", "--build", "level=5"),
            "each setting can be given once, got level=1 and level=5",
        ),
        (("--debug", "--tf32"), "--build and --tf32 are for engines; add --engine"),
        (
            ("--engine", "tensorrt-rtx:sm89", "--engine", "tensorrt"),
            "one command builds with one library",
        ),
    ],
)
def test_wrong_use_is_one_line(demo, arguments, said):
    done = _run(demo, *arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"dossr-export: {said}")
    assert not (demo / "engines").exists()


def test_an_unknown_gpu_and_a_gpu_that_is_not_served_are_one_line_with_exit_code_1(demo):
    pytest.importorskip("tensorrt_rtx")
    done = _run(demo, "--engine", "tensorrt-rtx:sm99")
    assert done.exit_code == 1
    assert "ahead of time for sm75, sm80" in done.stderr.splitlines()[-1]
    done = _run(demo, "--engine", "tensorrt-rtx:sm75", "--tile", 16)
    assert done.exit_code == 1
    assert "GPUs of compute capability 7.5 (Turing) are not served" in done.stderr.splitlines()[-1]


def test_engines_for_a_range_of_sides_are_built_by_an_image_of_the_usual_one(demo, monkeypatch):
    """An image of the default tile may lie outside the range; it would get an engine of its own."""
    sides = []

    class Device(Host):
        def open(self, bundle, stage):
            return Mock(run=lambda **inputs: sides.append(max(next(iter(inputs.values())).shape)))

    monkeypatch.setattr("dossr.export.engines.load_device", lambda *arguments: Device())
    monkeypatch.setattr("dossr.export.engines.from_host", lambda device, run: run)
    bundle = open_bundle(demo)
    options = BuildOptions(sides=(160, 256, 512))
    build_engines(bundle, EngineRequest("tensorrt"), options, 128)
    assert sides[0] == 256  # of the restorer
    build_engines(bundle, EngineRequest("tensorrt"), BuildOptions(), 64)
    assert sides[len(bundle.manifest.stages)] == 64


def test_a_folder_that_is_no_bundle_is_one_line(tmp_path):
    done = _run(tmp_path, "--engine", "tensorrt-rtx:sm89")
    assert done.exit_code == 2
    assert "is not a bundle" in done.stderr.splitlines()[-1]


def test_a_checkpoint_needs_an_output(checkpoints):
    done = _run(checkpoints / "separate.ckpt")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].endswith(
        "a checkpoint needs --output, the folder of the bundle"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--engine", "tensorrt-rtx:sm99"), 1, "ahead of time for sm75"),
        (("--engine", "tensorrt-rtx:sm89", "--build", "stripped"), 1, "leave out stripped"),
        (("--engine", "tensorrt-rtx:sm89", "--target", "cpu"), 2, "add --target tensorrt"),
        (
            ("--engine", "tensorrt-rtx:sm89", "--target", "cpu", "--target", "tensorrt-10.3"),
            2,
            "needs a graph for tensorrt, got cpu, tensorrt-10.3; add --target tensorrt",
        ),
    ],
)
def test_engines_that_cannot_be_built_stop_an_export_before_it_starts(
    tmp_path, checkpoints, arguments, code, said
):
    pytest.importorskip("tensorrt_rtx")
    done = _run(checkpoints / "separate.ckpt", "-o", tmp_path / "bundle", *arguments)
    assert done.exit_code == code
    assert said in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
