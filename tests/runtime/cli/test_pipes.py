"""Standard input and output, and what ``-o`` means (report 5)."""

import io
import os
import pty
import subprocess
import sys

import pytest
from PIL import Image

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]


@pytest.fixture
def photo(make_image, tmp_path):
    return make_image(tmp_path / "a.png")


def _opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_an_image_goes_to_standard_output_and_text_to_stderr(run_binary, photo):
    code, stdout, stderr = run_binary(photo, "-o", "-")
    assert code == 0
    image = _opened(stdout)
    assert (image.format, image.size) == ("PNG", (80, 48))
    assert stderr.startswith("standard output  80 x 48  ")


def test_standard_input_is_an_image_of_any_format(run, run_binary, make_image, size_of, tmp_path):
    data = make_image(tmp_path / "a.webp").read_bytes()
    assert run("-", "-o", tmp_path / "b.png", input=data)[0] == 0
    assert size_of(tmp_path / "b.png") == (80, 48)
    (tmp_path / "out").mkdir()
    assert run("-", "-o", tmp_path / "out", input=data)[0] == 0
    assert size_of(tmp_path / "out" / "stdin.png") == (80, 48)
    code, stdout, _ = run_binary("-", "-o", "-", "--format", "jpg", "--quality", 50, input=data)
    assert code == 0
    assert _opened(stdout).format == "JPEG"


@pytest.mark.parametrize("data", [b"", b"no image"])
def test_standard_input_that_is_no_image_is_one_line(run, tmp_path, data):
    code, _, stderr = run("-", "-o", tmp_path / "b.png", input=data)
    assert code == 1
    assert stderr.count("\n") == 1
    assert "standard input" in stderr
    assert not (tmp_path / "b.png").exists()


def test_processes_are_chained(photo, toy_bundle, size_of, tmp_path):
    """Two runs in a pipe, a named pipe and /dev/stdin."""
    words = ["-b", str(toy_bundle), "--steps", "1"]
    first = subprocess.Popen([*RUN, photo, "-o", "-", *words], stdout=subprocess.PIPE)
    second = [*RUN, "/dev/stdin", "-o", tmp_path / "16.png", "--scale", "2", *words]
    assert subprocess.run(second, stdin=first.stdout, timeout=60).returncode == 0
    first.stdout.close()
    assert first.wait(60) == 0
    assert size_of(tmp_path / "16.png") == (160, 96)


def test_an_image_is_not_written_to_a_terminal(photo, toy_bundle):
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*RUN, photo, "-o", "-", "-b", toy_bundle], stdout=theirs, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert "standard output is a terminal; redirect it" in done.stderr


def test_a_reader_that_leaves_ends_the_run(photo, toy_bundle):
    command = [*RUN, photo, "-o", "-", "-b", toy_bundle, "--steps", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(60) == 1
    assert said == ""  # as other commands in a pipe


@pytest.mark.parametrize(
    ("name", "settings", "written"),
    [
        ("2024.01.05", [], "2024.01.05.png"),
        ("result", [], "result.png"),
        ("result", ["--format", "jpg"], "result.jpg"),
        ("result", ["--format", "WebP", "--suffix", "_x4"], "result_x4.webp"),
        ("result.JPG", [], "result.JPG"),
        ("result.jpeg", ["--format", ".jpg"], "result.jpeg"),
        ("new/result", [], "new/result.png"),
        ("2024.01.05/", [], "2024.01.05/a.png"),
        ("result.png/", [], "result.png/a.png"),
        ("there", [], "there/a.png"),
        ("there.png", [], "there.png/a.png"),
        ("there", ["--suffix", "_x4", "--format", "tif"], "there/a_x4.tif"),
    ],
)
def test_the_output_of_one_file(run, photo, files, tmp_path, name, settings, written):
    out = tmp_path / "o"
    (out / "there").mkdir(parents=True)
    (out / "there.png").mkdir()
    assert run(photo, "-o", f"{out}/{name}", *settings)[0] == 0
    assert files(out) == [written]


def test_outputs_that_fit_no_input_are_one_line(run, photo, tmp_path):
    for words, said in (
        ([photo, photo, "-o", "-"], "-o - takes the result of one image file; give a folder"),
        ([tmp_path, "-o", "-"], "-o - takes the result of one image file; give a folder"),
        ([photo, "-o", "-", "--json"], "--json and -o - both write to standard output"),
        ([photo, "-o", "-", "--compare", "page.html"], "--compare shows files"),
        (
            [tmp_path, "-o", tmp_path / "x.png"],
            f"its name is that of a file; give {tmp_path}/x.png/",
        ),
        (["/dev/null", "-o", tmp_path / "x.png"], "/dev/null must be an image file or a folder"),
    ):
        code, _, stderr = run(*words)
        assert code == 2
        assert said in stderr
        assert stderr.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
    assert not (tmp_path / "-").exists()


def test_outputs_that_are_no_files_are_refused_before_the_work(run, photo, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead.png").symlink_to("nowhere")
    (tmp_path / "o" / "a.png").mkdir(parents=True)
    for out, said in (
        (tmp_path / "pipe.png", "pipe.png must be a file, and it is a device or a pipe"),
        (tmp_path / "dead.png", "dead.png must be a file, and it is a broken link; remove it"),
        (tmp_path / "o", "a.png must be a file, and it is a folder"),
    ):
        code, _, stderr = run(photo, "-o", out, "--overwrite")
        assert code == 2
        assert said in stderr


def test_a_file_may_be_called_a_dash(run, make_image, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_image(tmp_path / "-", format="PNG")
    assert run("./-", "-o", "./out/")[0] == 0
    assert files(tmp_path / "out") == ["-.png"]
