"""Sizes, formats and pages that were asked for: done, or refused before any network runs."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import Pipeline
from dossr.runtime.bundle import DEMO
from dossr.runtime.cli.jobs import Job, Plan
from dossr.runtime.cli.one_image import Failed
from dossr.runtime.cli.plan import plan_lines, plan_records
from dossr.runtime.engines.device import Host


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test if a network is opened or run."""

    def never(*_, **__):
        raise AssertionError("a network runs")

    monkeypatch.setattr(Pipeline, "run", never)
    return never


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ([], (80, 48)),
        (["--scale", "0.1"], (2, 1)),
        (["--scale", "0.01"], (1, 1)),
        (["--scale", "1.5"], (30, 18)),
        (["--scale", "6"], (120, 72)),
        (["--longest", "50"], (50, 30)),
        (["--shortest", "50"], (83, 50)),
        (["--width", "31"], (31, 19)),
        (["--height", "31"], (52, 31)),
        (["--fit", "100x30"], (50, 30)),
        (["--fit", "100X300"], (100, 60)),
    ],
)
def test_the_size_is_the_one_asked_for(run, make_image, size_of, tmp_path, asked, size):
    photo = make_image(tmp_path / "a.png")
    code, stdout, stderr = run(photo, "-o", tmp_path / "o.png", *asked, "--json")
    assert code == 0
    assert size_of(tmp_path / "o.png") == size
    (result,) = json.loads(stdout)["results"]
    assert (result["width"], result["height"]) == size
    assert (stderr == "above 4x the rest is Lanczos\n") == (size[0] > 80)


def test_lanczos_is_told_once_for_a_folder(run, make_image, tmp_path):
    for name in "abc":
        make_image(tmp_path / "in" / f"{name}.png")
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--scale", "5")[2].count("Lanczos") == 1


@pytest.mark.parametrize(
    ("size", "name", "limit"),
    [((4100, 2), "o.webp", 16383), ((16400, 1), "o.jpg", 65500), ((1, 8200), "o.avif", 32768),
     ((16400, 1), "o.tga", 65535)],
)  # fmt: skip
def test_sizes_that_the_format_does_not_hold_are_refused_before_the_work(
    run, no_network, tmp_path, size, name, limit
):
    """Report 18."""
    Image.new("RGB", size).save(tmp_path / "a.png")
    code, _, stderr = run(tmp_path / "a.png", "-o", tmp_path / name)
    assert code == 1
    assert stderr.count("\n") == 1
    assert re.search(rf"at most {limit} pixels, got {4 * max(size)}", stderr)


def test_a_smaller_size_fits_the_format(run, size_of, tmp_path):
    Image.new("RGB", (4100, 2)).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "o.webp", "--longest", 16383)[0] == 0
    assert size_of(tmp_path / "o.webp") == (16383, 8)


def test_an_absurd_size_is_refused_before_the_work(run, no_network, make_image, tmp_path):
    photo = make_image(tmp_path / "a.png")
    code, _, stderr = run(photo, "-o", tmp_path / "o.png", "--scale", "4000")
    assert code == 1
    assert "its result must have at most 268435456 pixels (16 times --max-pixels)" in stderr


def test_a_scan_above_the_limit_is_refused_and_the_limit_can_be_raised(run, no_network, tmp_path):
    """Report 19: no word of an attack."""
    Image.new("1", (20000, 9000)).save(tmp_path / "b.png")
    code, _, stderr = run(tmp_path / "b.png", "-o", tmp_path / "o.png")
    assert code == 1
    assert (
        "must have at most 16777216 pixels, got 20000 x 9000; pass a larger --max-pixels" in stderr
    )
    Image.new("1", (99, 101)).save(tmp_path / "c.png")
    words = [tmp_path / "c.png", "-o", tmp_path / "o.png", "--dry-run", "--json"]
    assert run(*words, "--max-pixels", 99 * 101 - 1)[0] == 1
    code, stdout, _ = run(*words, "--max-pixels", 99 * 101)
    assert code == 0
    assert json.loads(stdout)["plan"][0]["width"] == 396


def test_screenshots_become_jpegs(run, tmp_path):
    """Report 17: opaque alpha is dropped quietly; real alpha needs a background, told before work."""
    clear = np.full((8, 8, 4), 255, np.uint8)
    Image.fromarray(clear).save(tmp_path / "opaque.png")
    clear[:4, :, 3] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    code, _, stderr = run(tmp_path / "opaque.png", "-o", tmp_path / "o.jpg")
    assert (code, stderr) == (0, "")
    code, _, stderr = run(tmp_path / "clear.png", "-o", tmp_path / "c.jpg")
    assert code == 1
    assert "--background" in stderr
    assert not (tmp_path / "c.jpg").exists()
    assert run(tmp_path / "clear.png", "-o", tmp_path / "c.jpg", "--background", "#00ff00")[0] == 0
    with Image.open(tmp_path / "c.jpg") as image:
        assert image.mode == "RGB"
        red, green, blue = image.getpixel((16, 2))
        assert green > 200 > 100 > max(red, blue)


@pytest.mark.parametrize("name", ["jpg", "webp", "tif", "bmp"])
def test_a_folder_has_the_format_asked_for(run, make_image, tmp_path, name):
    make_image(tmp_path / "in" / "a.png")
    settings = ["--format", name, *(["--quality", 40] if name in ("jpg", "webp") else [])]
    assert run(tmp_path / "in", "-o", tmp_path / "out", *settings)[0] == 0
    with Image.open(tmp_path / "out" / f"a.{name}") as image:
        assert image.format == {"jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP"}[name]


def test_quality_makes_smaller_files(run, make_image, tmp_path):
    photo = make_image(tmp_path / "a.png")
    for quality in (10, 90):
        assert run(photo, "-o", tmp_path / f"{quality}.jpg", "--quality", quality)[0] == 0
    assert (tmp_path / "10.jpg").stat().st_size < (tmp_path / "90.jpg").stat().st_size / 2


def test_a_dry_run_tells_everything_and_does_nothing(run, make_image, files, tmp_path, monkeypatch):
    def never(host, path):
        raise AssertionError(f"{path} is loaded")

    monkeypatch.setattr(Host, "open", never)
    folder = tmp_path / "in"
    make_image(folder / "a.jpg")
    make_image(folder / "a.png", (10, 10))
    (folder / "._a.png").write_bytes(bytes.fromhex("00051607") + bytes(60))
    (folder / "bad.png").write_text("no image")
    (tmp_path / ".dossr-0123456789abcdef.png").touch()
    before = files(tmp_path)
    code, stdout, _ = run(folder, "-o", tmp_path / "out", "--longest", 30, "--dry-run", bundle=DEMO)
    assert code == 1
    *lines, memory = [re.split(r" {2,}", line) for line in stdout.splitlines()]
    assert re.fullmatch(r"tiles of 128, about [\d.]+ GB of memory: weights .* GB free", memory[0])
    assert lines == [
        ["input", "size", "frames", "output", "final size"],
        [f"{folder}/a.jpg", "20 x 12", "1", f"{tmp_path}/out/a.jpg.png", "30 x 18"],
        [f"{folder}/a.png", "10 x 10", "1", f"{tmp_path}/out/a.png.png", "30 x 30"],
        [f"{folder}/bad.png", f"{tmp_path}/out/bad.png", lines[3][2]],
        [f"{folder}/._a.png", "passed over: sidecar"],
    ]
    assert lines[3][2].startswith(f"fails: {folder}/bad.png must be an image")
    code, stdout, _ = run(folder, "-o", tmp_path / "out", "--dry-run", "--json", bundle=DEMO)
    document = json.loads(stdout)
    assert [row.get("width") for row in document["plan"]] == [80, 40, None]
    assert document["passed_over"][0]["what"] == "sidecar"
    memory = document["memory"]
    assert memory["total"] > memory["weights"] + memory["activations"] + memory["largest_image"]
    latent = 6 / 2**2 * 4  # bytes for each pixel: channels, sides of 1/2, float32
    assert memory["largest_image"] == 80 * 48 * (100 + latent * (1 + 12) + 3)  # one step
    assert files(tmp_path) == before


def test_a_name_with_control_characters_is_one_line_and_steers_no_terminal(
    run, make_image, tmp_path
):
    make_image(tmp_path / "in" / "a\nb.png")
    (tmp_path / "in" / "\x1b[31m.png").write_text("no image")
    for more in (["--dry-run"], []):
        code, stdout, stderr = run(tmp_path / "in", "-o", tmp_path / "out", *more, bundle=DEMO)
        assert code == 1
        assert "/a?b.png" in stdout
        assert "/?[31m.png must be an image" in stdout + stderr
        assert "\x1b" not in stdout + stderr


def test_a_dry_run_refuses_what_the_run_refuses(run, make_image, tmp_path):
    photo = make_image(tmp_path / "a.png")
    make_image(tmp_path / "o.png")
    assert "exists; pass --overwrite" in run(photo, "-o", tmp_path / "o.png", "--dry-run")[2]
    stderr = run(photo, "-o", tmp_path / "p.png", "--tile", "100", "--dry-run")[2]
    assert "--tile must be 0 or a multiple of 16" in stderr


def test_a_page_compares_what_was_done(run, make_image, tmp_path):
    for name in ("a.png", "b & c.png"):
        make_image(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_text("no image")
    page = tmp_path / "new" / "page.html"
    words = [tmp_path / "in", "-o", tmp_path / "out", "--compare", page]
    assert run(*words)[0] == 1
    text = page.read_text()
    assert "2 images" in text
    assert "b &amp; c.png" in text
    assert run(*words, "--overwrite")[0] == 1
    page.unlink()
    assert run(*words, "--skip-existing")[0] == 1  # the page shows results of earlier runs too
    assert "2 images" in page.read_text()
    (tmp_path / "in" / "bad.png").unlink()
    assert "page.html exists" in run(words[0], "-o", tmp_path / "out2", "--compare", page)[2]


def test_a_page_leaves_out_what_cannot_be_read_again(run, make_image, tmp_path):
    for name in ("a.png", "b.png"):
        make_image(tmp_path / "in" / name)
        make_image(tmp_path / "out" / name)
    (tmp_path / "out" / "a.png").write_text("damaged meanwhile")
    words = [tmp_path / "in", "-o", tmp_path / "out", "--skip-existing"]
    code, stdout, stderr = run(*words, "--compare", tmp_path / "page.html", "--json")
    assert code == 1
    assert f"dossr-run: {tmp_path}/out/a.png must be an image" in stderr
    assert len(json.loads(stdout)["skipped"]) == 2
    assert (tmp_path / "page.html").read_text().count("<figure id=") == 1


def test_a_page_of_what_it_cannot_show_is_refused(run, make_image, tmp_path):
    photo, page = make_image(tmp_path / "a.png"), tmp_path / "page.html"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.png").symlink_to("a.png")
    before = photo.read_bytes()
    for words, said in (
        (["-", "-o", tmp_path / "b.png"], "standard input is a stream; give a file"),
        ([tmp_path / "pipe", "-o", tmp_path / "b.png"], "pipe is a stream; give a file"),
        ([photo, "-o", photo, "--overwrite"], "a.png would be replaced; give another name to -o"),
        ([tmp_path / "link.png", "-o", photo, "--overwrite"], "link.png would be replaced"),
    ):
        code, _, stderr = run(*words, "--compare", page)
        assert code == 2
        assert said in stderr
    assert photo.read_bytes() == before
    assert not page.exists()


def test_as_many_steps_as_the_start_allows_are_taken(run, make_image, tmp_path):
    photo = make_image(tmp_path / "a.png")
    words = [photo, "-o", tmp_path / "o.png", "--start", "1000", "--dry-run"]
    assert run(*words, "--steps", "999")[0] == 0
    assert run(*words, "--steps", "1000")[0] == 2


def test_start_and_detail_reach_the_networks(run, make_image, tmp_path):
    photo = make_image(tmp_path / "a.png")
    results = []
    for settings in ([], ["--start", "1000"], ["--detail", "0"]):
        assert run(photo, "-o", tmp_path / "o.png", "--overwrite", *settings)[0] == 0
        results.append((tmp_path / "o.png").read_bytes())
    assert len(set(results)) == 3


def test_a_page_that_cannot_be_written_is_told_before_any_work(run, make_image, tmp_path):
    photo = make_image(tmp_path / "a.png")
    (tmp_path / "link.html").symlink_to("gone.html")
    for page, told in (
        (photo / "page.html", f"cannot write to {photo}: {photo} is not a folder"),
        (tmp_path / "link.html", "link.html must be a file, and it is a broken link; remove it"),
    ):
        code, _, stderr = run(photo, "-o", tmp_path / "out", "--compare", page)
        assert code == 2
        assert told in stderr
        assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_has_no_output_in_a_dry_run():
    failed = Failed(Job(Path("locked"), None), "locked cannot be read: Permission denied")
    (_, line), (record,) = plan_lines(Plan(()), [failed]), plan_records([failed])
    assert "standard output" not in line
    assert record == {"input": "locked", "output": None, "error": failed.reason}
