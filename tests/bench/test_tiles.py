"""dossr-bench tiles: borders are found where they are, and a seam is seen."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dossr.bench.cli import main
from dossr.bench.tiles import _borders, _entry
from dossr.runtime.errors import OutOfMemoryError
from dossr.runtime.tiling import cut


@pytest.fixture
def cuts():
    return cut(192, 96, 48, 16)


def test_borders_are_the_ends_of_tiles_inside_the_image(cuts):
    near = _borders(cuts, 4 * 192)
    inner = {*cuts.starts, *(start + 96 for start in cuts.starts)} - {0, 192}
    middles = {4 * place - 1 for place in inner}
    assert set(np.flatnonzero(near)) == {m + step for m in middles for step in (-1, 0, 1)}


def test_a_seam_at_a_border_is_seen_there_and_a_change_elsewhere_is_not(cuts):
    random = np.random.default_rng(0)
    whole = random.integers(100, 110, (768, 768, 3), np.uint8)
    edge = 4 * (cuts.starts[1])
    seam, other = whole.copy(), whole.copy()
    seam[:, edge:] += 20
    other[:, edge + 40 :] += 20
    assert _entry("x", 96, whole, whole, (cuts, cuts)).borders == 1
    assert _entry("x", 96, whole, seam, (cuts, cuts)).borders > 1.05
    found = _entry("x", 96, whole, other, (cuts, cuts))
    assert found.borders == pytest.approx(1, abs=1e-6)
    assert found.elsewhere > 1
    assert found.largest == 20


def test_the_command_writes_table_figures_and_images(toy_bundle, tmp_path):
    photos = tmp_path / "photos" / "sub"
    photos.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    out = tmp_path / "out"
    arguments = [
        "tiles",
        str(photos.parent),
        "-b",
        str(toy_bundle),
        "--tile",
        "64",
        "--size",
        "96",
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.stderr
    assert "| sub/a.png | 64 |" in done.stdout
    (entry,) = json.loads((out / "tiles.json").read_text())["entries"]
    assert entry["psnr"] > 20
    assert sorted(path.name for path in out.glob("sub/*.png")) == [
        "a.png-64.png",
        "a.png-whole.png",
    ]


def test_a_tile_without_memory_is_one_line_after_what_was_measured(tmp_path, monkeypatch):
    def upscale(lr, tile):
        if tile == 80:
            raise OutOfMemoryError("the decoder ran out of memory")
        return np.zeros((384, 384, 3), np.uint8)

    pipeline = Mock(upscale=upscale, manifest=Mock(size_multiple=16))
    monkeypatch.setattr("dossr.bench.tiles.open_side", lambda *arguments: pipeline)
    Image.new("RGB", (96, 96)).save(tmp_path / "a.png")
    arguments = ["tiles", str(tmp_path), "--size", "96", "--tile", "64", "--tile", "80"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "| a.png | 64 |" in done.stdout
    assert done.stderr.endswith("a.png failed in tiles of 80: the decoder ran out of memory\n")


def test_a_tile_that_the_bundle_does_not_take_is_named(toy_bundle, tmp_path):
    done = CliRunner().invoke(main, ["tiles", "-b", str(toy_bundle), "--tile", "65"])
    assert done.exit_code == 2
    assert "tile must be 0 or a multiple of" in done.stderr
