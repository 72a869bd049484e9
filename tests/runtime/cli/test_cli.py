import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dossr.runtime.cli import main
from dossr.runtime.engines.device import Host


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)).save(path)
    return path


def _size(path):
    with Image.open(path) as image:
        return image.size


def _copy(source, target):
    """Save the image in the format of the target's suffix."""
    with Image.open(source) as image:
        image.save(target)


def _one_line(stderr):
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("dossr-run: ")
    return stderr


def test_one_file_to_one_file(run, photo, tmp_path):
    code, stdout, _ = run(photo, "-o", tmp_path / "big.jpg")
    assert code == 0
    assert stdout.startswith(f"{tmp_path / 'big.jpg'}  80 x 48  ")
    assert _size(tmp_path / "big.jpg") == (80, 48)


def test_a_folder_keeps_its_structure_and_skips_other_files(run, photo, tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    _copy(photo, folder / "a.bmp")
    _copy(photo, folder / "sub" / "b.png")
    (folder / "notes.txt").write_text("no image")
    code, stdout, _ = run(folder, "-o", folder / "out")
    assert code == 0
    written = {str(path.relative_to(folder / "out")) for path in (folder / "out").rglob("*.png")}
    assert written == {"a.png", "sub/b.png"}
    assert len(stdout.splitlines()) == 2
    code, _, _ = run(folder, "-o", folder / "out", "--overwrite")  # its own output is no input
    assert code == 0
    assert len(list((folder / "out").rglob("*.png"))) == 2


def test_the_output_may_be_the_folder_above_or_the_same(run, photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    _copy(photo, folder / "a.jpg")
    assert run(folder, "-o", tmp_path)[0] == 0
    assert run(folder, "-o", folder)[0] == 0
    assert _size(tmp_path / "a.png") == _size(folder / "a_upscaled.png") == (80, 48)


def test_nothing_is_made_where_the_bundle_does_not_open(run, photo, tmp_path):
    assert run(photo, "-o", tmp_path / "new" / "big.png", bundle=tmp_path)[0] == 2
    assert not (tmp_path / "new").exists()


def test_json_holds_options_and_results(run, photo, tmp_path):
    code, stdout, _ = run(photo, "-o", tmp_path / "o.png", "--json", "--steps", "2", "--seed", "1")
    document = json.loads(stdout)
    assert code == 0
    assert (document["steps"], document["seed"]) == (2, 1)
    (result,) = document["results"]
    assert (result["width"], result["height"]) == (80, 48)
    assert result["output"] == str(tmp_path / "o.png")


def test_json_holds_the_precision_of_each_stage(run, photo, tmp_path):
    for device in ("cpu", "openvino"):
        settings = ("--device", device, "--precision", "fp32", "--json", "--overwrite")
        code, stdout, stderr = run(photo, "-o", tmp_path / "o.png", *settings)
        document = json.loads(stdout)
        assert (code, document["device"]) == (0, device)
        assert set(document["precision"].values()) == {"fp32"}
        assert ("precision fp32: as asked" in stderr) == (device == "openvino")


def test_a_precision_that_cannot_be_had_is_one_line(run, photo, tmp_path):
    for precision, said in (
        ("bf16", "precision bf16 is not for the device cpu"),
        ("fp8", "precision must be auto, fp32, bf16, int8 or STAGE=PRECISION, got 'fp8'"),
    ):
        code, _, stderr = run(photo, "-o", tmp_path / "o.png", "--precision", precision)
        assert code == 2
        assert said in _one_line(stderr)


def test_a_large_image_is_run_in_the_requested_tiles(run, tmp_path):
    """The toy networks have a receptive field of one pixel, so tiles change rounding only."""
    photo = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 150, 3), np.uint8)).save(photo)
    images = []
    for settings in (["--tile", 0], ["--tile", 64, "--overlap", 16, "--batch", 2]):
        code, stdout, _ = run(photo, "-o", tmp_path / "o.png", "--overwrite", "--json", *settings)
        assert code == 0
        assert json.loads(stdout)["tile"] == settings[1]
        images.append(np.asarray(Image.open(tmp_path / "o.png")).astype(int))
    assert images[0].shape == (280, 600, 3)
    assert np.abs(images[1] - images[0]).max() <= 1


def test_some_failures_are_named_and_the_others_go_on(run, photo, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    code, stdout, stderr = run(tmp_path / "bad.png", photo, "-o", tmp_path / "out")
    assert code == 1
    assert _one_line(stderr).startswith(f"dossr-run: {tmp_path / 'bad.png'} must be an image")
    assert "photo.png" in stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]


def test_an_unsupported_output_is_reported_before_the_work(run, tmp_path):
    Image.new("RGBA", (8, 8)).save(tmp_path / "clear.png")
    code, _, stderr = run(tmp_path / "clear.png", "-o", tmp_path / "big.jpg")
    assert code == 1
    assert "big.jpg does not support the transparency of its source" in _one_line(stderr)


def test_a_truncated_image_fails_and_writes_nothing(run, photo, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:200])
    code, _, stderr = run(cut, "-o", tmp_path / "big.png")
    assert code == 1
    assert "truncated" in _one_line(stderr)
    assert not (tmp_path / "big.png").exists()


def test_an_existing_output_stops_everything_before_it_starts(run, photo, tmp_path):
    target = tmp_path / "big.png"
    target.write_text("mine")
    code, _, stderr = run(photo, "-o", target)
    assert code == 2
    assert "big.png exists; pass --overwrite or --skip-existing" in _one_line(stderr)
    assert target.read_text() == "mine"
    assert run(photo, "-o", target, "--overwrite")[0] == 0
    assert _size(target) == (80, 48)


def test_an_interrupted_run_is_resumed(run, photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        _copy(photo, folder / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("done before")
    code, stdout, _ = run(folder, "-o", tmp_path / "out", "--skip-existing")
    assert code == 0
    assert (tmp_path / "out" / "a.png").read_text() == "done before"
    assert len(stdout.splitlines()) == 1
    code, _, stderr = run(folder, "-o", tmp_path / "out", "--skip-existing")
    assert (code, stderr) == (0, "nothing to do: every output exists\n")
    code, stdout, stderr = run(folder, "-o", tmp_path / "out", "--skip-existing", "--json")
    assert (code, stderr) == (0, "")
    assert len(json.loads(stdout)["skipped"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "'--steps': 0 is not in the range 1<=x<=999"),
        (["--steps", "500"], "--steps must be between 1 and 499 with start 500, got 500"),
        (["--order", "4"], "'--order': 4 is not in the range 1<=x<=3"),
        (["--scale", "0"], "--scale must be a number above 0, got 0"),
        (["--scale", "nan"], "--scale must be a number above 0, got nan"),
        (
            ["--scale", "2", "--fit", "9x9"],
            "at most one size can be asked for, got --scale and --fit",
        ),
        (["--longest", "0"], "'--longest': 0 is not in the range x>=1"),
        (["--fit", "9"], "--fit must be WIDTHxHEIGHT in pixels, such as 3840x2160, got '9'"),
        (["--format", "xyz"], "must be one of png, apng, jpg"),
        (["--format", "jpg"], "--format jpg contradicts the name"),
        (["--suffix", "_x4"], "--suffix is for folders and for names without a format"),
        (["--quality", "80"], "--quality is for jpg"),
        (["--quality", "0"], "'--quality': 0 is not in the range 1<=x<=100"),
        (["--background", "blurple"], "--background must be a colour such as white or #ff8800"),
        (["--start", "400"], "'400' is not one of '333', '500', '667', '1000'"),
        (["--detail", "2"], "'--detail': 2.0 is not in the range 0<=x<=1"),
        (["--compare", "page.png"], "--compare writes an HTML page, got page.png"),
        (["--color-fix", "sepia"], "'sepia' is not one of"),
        (["--tile", "100"], "--tile must be 0 or a multiple of 16 from 64 on, got 100"),
        (["--overlap", "128"], "--overlap must be a multiple of 16 below the tile's 128, got 128"),
        (["--batch", "0"], "'--batch': 0 is not in the range x>=1"),
        (["--device", "tpu"], "'tpu' is not"),
        (["--device", "tensorrt", "--build", "level=9"], "level must be 0 to 5, got 9"),
        (["--device", "tensorrt", "--build", "fast"], "level=0..5"),
        (
            ["--build", "level=5"],
            "--build is for --device tensorrt and tensorrt-rtx, got --device cpu",
        ),
        (["--overwrite", "--skip-existing"], "contradict each other"),
    ],
)
def test_wrong_use_is_one_line(run, photo, tmp_path, arguments, said):
    code, _, stderr = run(photo, "-o", tmp_path / "big.png", *arguments)
    assert code == 2
    assert said in _one_line(stderr)
    assert not (tmp_path / "big.png").exists()


def test_tiles_are_checked_before_any_network_is_loaded(run, photo, tmp_path, monkeypatch):
    def never(host, path):
        raise AssertionError(f"{path} is loaded")

    monkeypatch.setattr(Host, "open", never)
    code, _, stderr = run(photo, "-o", tmp_path / "big.png", "--tile", "100")
    assert code == 2
    assert "--tile must be 0 or a multiple of 16" in _one_line(stderr)


def test_impossible_outputs_are_one_line(run, photo, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "twin").mkdir()
    _copy(photo, tmp_path / "twin" / "photo.jpg")
    for arguments, said in (
        ([photo, "-o", tmp_path / "file" / "big.png"], "cannot write to"),
        ([photo, tmp_path / "twin", "-o", tmp_path / "file"], "must be a folder"),
        ([photo, "-o", tmp_path / "big.xyz"], "'.xyz' is not a supported format"),
        ([tmp_path / "missing.png", "-o", tmp_path / "out"], "does not exist"),
        ([tmp_path / "file", photo, "-o", tmp_path / "file"], "must be a folder"),
        ([tmp_path / "twin", "-o", tmp_path / "new.png"], "must be a folder for these inputs"),
        ([photo, "-o", ""], "-o must be a file or a folder"),
        ([photo, "-o", tmp_path / "big.jpg", "--depth", "16"], "--depth 16 is for png"),
        ([photo, "-o", tmp_path / "big.ico"], "'.ico' is not a supported format"),
        ([photo, "-o", tmp_path / ("n" * 300)], "cannot write"),
        ([tmp_path / "twin", "-o", tmp_path / "twin" / "photo.jpg"], "must be a folder"),
    ):
        code, _, stderr = run(*arguments)
        assert code == 2
        assert said in _one_line(stderr)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no images in" in _one_line(run(empty, "-o", tmp_path / "out")[2])


def test_a_folder_that_is_no_bundle_is_one_line(run, photo, tmp_path):
    code, _, stderr = run(photo, "-o", tmp_path / "big.png", bundle=tmp_path)
    assert code == 2
    assert "is not a bundle: it has no manifest.json" in _one_line(stderr)


def test_help_has_every_option_and_an_example():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for word in ("--bundle", "--skip-existing", "Exit code", "dossr-run photo.jpg", "[default: 5"):
        assert word in result.stdout


def test_help_needs_nothing_heavy():
    """Neither ONNX Runtime nor Pillow, so that the help is fast."""
    program = (
        "import sys\n"
        "from dossr.runtime.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx', 'onnxruntime', 'PIL'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
