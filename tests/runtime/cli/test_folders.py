"""Folders: what is read, what is passed over and told, and under which names results appear."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dossr.runtime.cli.naming import Named, Naming, root_names, targets
from dossr.runtime.cli.search import Found, Search, same_name

SIDECAR = bytes.fromhex("00051607") + bytes(60)


def test_sidecars_and_system_files_are_passed_over(run, make_image, files, tmp_path):
    """Report 1: an exFAT disk has a ``._x.jpg`` beside every photo."""
    mix = tmp_path / "mix"
    make_image(mix / "ok.png")
    (mix / "._ok.png").write_bytes(SIDECAR)
    (mix / ".DS_Store").write_bytes(b"\0\0\0\x01Bud1" + bytes(60))
    (mix / "Thumbs.db").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600))
    (mix / "desktop.ini").write_text("[.ShellClassInfo]\nIconFile=x.ico\n")
    make_image(mix / "@eaDir" / "ok.png" / "preview.jpg")
    code, _, stderr = run(mix, "-o", tmp_path / "out")
    assert code == 0
    assert stderr == "passed over: 4 sidecars, 1 system folder\n"
    assert files(tmp_path / "out") == ["ok.png"]


def test_folders_of_deleted_files_and_previews_are_system_folders(make_image, tmp_path):
    found = make_image(tmp_path / ".trash" / "a.png")
    for name in ("@eaDir", ".Trash-1000", "#recycle", "@Recycle", ".@__thumb", "$RECYCLE.BIN"):
        make_image(tmp_path / name / "a.png")
    search = Search(None)
    search.add([str(tmp_path)])
    assert [item.path for item in search.found] == [found]
    assert [item.what for item in search.passed_over] == ["system folder"] * 6


def test_images_are_known_by_content_and_all_others_counted(
    run, make_image, files, tmp_path, monkeypatch
):
    """Report 2: a phone's folder. Nothing is passed over in silence."""
    monkeypatch.setattr(
        "dossr.runtime.images.kinds._PACKAGES", {"heic": "no_such_package", "jxl": "no_such"}
    )
    phone = tmp_path / "phone"
    make_image(phone / "ok.png")
    make_image(phone / "IMG_1.heic", format="AVIF")
    make_image(phone / "plain", format="PNG")
    make_image(phone / "old.jpe", format="JPEG")
    make_image(phone / "wrong.png", format="JPEG")
    (phone / "IMG_2.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    (phone / "IMG_3.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    (phone / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40))
    (phone / "notes.txt").write_text("no image")
    code, stdout, stderr = run(phone, "-o", tmp_path / "out", "--json")
    assert code == 0
    assert files(tmp_path / "out") == ["IMG_1.png", "ok.png", "old.png", "plain.png", "wrong.png"]
    assert stderr.startswith("passed over: 2 .heic (pip install 'dossr[images]'), 1 .mp4 (")
    assert stderr.count("\n") == 1
    passed = {item["input"]: item for item in json.loads(stdout)["passed_over"]}
    assert set(passed) == {
        str(phone / n) for n in ("IMG_2.heic", "IMG_3.HEIC", "clip.mp4", "notes.txt")
    }
    assert passed[str(phone / "IMG_2.heic")]["remedy"] == "pip install 'dossr[images]'"


def test_only_clashing_names_change_and_it_is_told_once(run, make_image, files, tmp_path):
    """Report 3."""
    for name in ("a.jpg", "a.png", "b.png"):
        make_image(tmp_path / "dup" / name)
    code, _, stderr = run(tmp_path / "dup", "-o", tmp_path / "out")
    assert code == 0
    assert files(tmp_path / "out") == ["a.jpg.png", "a.png.png", "b.png"]
    assert stderr.count("names that would clash were changed") == stderr.count("\n") == 1


def test_several_folders_keep_their_names(run, make_image, files, tmp_path):
    for folder in ("y1", "y2", "z/y1"):
        make_image(tmp_path / folder / "a.png")
    assert run(tmp_path / "y1", tmp_path / "y2", "-o", tmp_path / "o")[0] == 0
    assert files(tmp_path / "o") == ["y1/a.png", "y2/a.png"]
    assert run(tmp_path / "y1", tmp_path / "z" / "y1", "-o", tmp_path / "p")[0] == 0
    assert files(tmp_path / "p") == [f"{tmp_path.name}/y1/a.png", "z/y1/a.png"]


def test_files_of_one_name_go_to_folders_of_their_own(run, make_image, files, tmp_path):
    one, two = make_image(tmp_path / "y1" / "a.png"), make_image(tmp_path / "y2" / "a.png")
    other = make_image(tmp_path / "y2" / "b.png")
    assert run(one, two, other, "-o", tmp_path / "o")[0] == 0
    assert files(tmp_path / "o") == ["b.png", "y1/a.png", "y2/a.png"]


def test_a_file_above_has_its_folder_named_too(run, make_image, files, tmp_path, monkeypatch):
    """And no result leaves the output by ``..``."""
    make_image(tmp_path / "y1" / "a.png")
    make_image(tmp_path / "y1" / "here" / "a.png")
    monkeypatch.chdir(tmp_path / "y1" / "here")
    assert run("../a.png", "a.png", "-o", "o", "--overwrite")[0] == 0
    assert files(tmp_path / "y1" / "here" / "o") == ["here/a.png", "y1/a.png"]
    assert files(tmp_path / "y1") == ["a.png", "here/a.png", "here/o/here/a.png", "here/o/y1/a.png"]


def test_the_same_file_runs_once(run, make_image, files, tmp_path, monkeypatch):
    one = make_image(tmp_path / "in" / "one.png")
    (tmp_path / "in" / "link.png").symlink_to("one.png")
    (tmp_path / "round").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    spelled = ["in/one.png", "./in/../in/one.png", one, "round/one.png", "in"]
    code, stdout, stderr = run(one, *spelled, "-o", "out")
    assert code == 0
    assert len(stdout.splitlines()) == 1
    assert files(tmp_path / "out") == ["one.png"]
    assert stderr == "passed over: 6 repeats\n"


def test_two_hard_links_are_two_files(run, make_image, files, tmp_path):
    """A tree that holds a file twice keeps both."""
    make_image(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").hardlink_to(tmp_path / "in" / "a.png")
    assert run(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == ["a.png", "b.png"]


def test_links_to_folders_are_followed_once(run, make_image, files, tmp_path):
    make_image(tmp_path / "elsewhere" / "far.png")
    make_image(tmp_path / "in" / "sub" / "near.png")
    (tmp_path / "in" / "away").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "a_second_name").symlink_to("sub")
    (tmp_path / "in" / "sub" / "loop").symlink_to("..")
    (tmp_path / "in" / "dead.png").symlink_to("nowhere")
    code, _, stderr = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    assert files(tmp_path / "out") == ["away/far.png", "sub/near.png"]
    assert "2 links to folders that are searched already, 1 broken link" in stderr


@pytest.mark.parametrize(
    "settings", [[], ["--format", "webp"], ["--suffix", "_x4"], ["--scale", "2"]]
)
def test_results_among_the_sources_are_never_read(run, make_image, files, tmp_path, settings):
    """Report 3: ``photos -o photos`` again and again. No source is replaced either."""
    photos = tmp_path / "photos"
    names = ["a.jpg", "a.png", "b.png", "B.PNG", "sub/c.webp"]
    before = {name: make_image(photos / name).read_bytes() for name in names}
    assert run(photos, "-o", photos)[0] == 0
    first = files(photos)
    assert len(first) == 10
    for _ in range(2):
        code, _, stderr = run(photos, "-o", photos, "--overwrite", *settings)
        assert code == 0
        assert len(files(photos)) == (15 if "--scale" not in settings and settings else 10)
        assert "results of an earlier run" in stderr
    skipped = run(photos, "-o", photos, "--skip-existing", *settings)
    assert skipped[2].endswith("every output exists\n")
    assert {name: (photos / name).read_bytes() for name in names} == before


def test_named_files_among_their_results(run, make_image, files, tmp_path, monkeypatch):
    """``dossr-run * -o .``, twice; but a result alone may be upscaled again."""
    monkeypatch.chdir(make_image(tmp_path / "a.png").parent)
    make_image(tmp_path / "b.jpg")
    assert run("a.png", "b.jpg", "-o", ".")[0] == 0
    assert files(tmp_path) == ["a.png", "a_upscaled.png", "b.jpg", "b_upscaled.png"]
    assert run(*files(tmp_path), "-o", ".", "--overwrite")[0] == 0
    assert len(files(tmp_path)) == 4
    assert run("a_upscaled.png", "-o", ".")[0] == 0
    assert "a_upscaled_upscaled.png" in files(tmp_path)


def test_an_output_inside_the_input_is_not_read(run, make_image, files, tmp_path):
    make_image(tmp_path / "a.png")
    for settings in ([], ["--overwrite"], ["--skip-existing"]):
        assert run(tmp_path, "-o", tmp_path / "out" / "deep", *settings)[0] == 0
    assert files(tmp_path) == ["a.png", "out/deep/a.png"]


@pytest.mark.parametrize(
    ("inputs", "out", "place"),
    [
        (["a", "b"], "a", "a/a"),
        (["b", "a"], "a", "a/b/d"),
        (["a", "b"], "../in/a", "../in/a/a"),
        (["b", "."], ".", "in/a"),
        (["a", "c/a/d", "b/d"], ".", "a/d"),
        (["c"], ".", "c/d"),
    ],
)
def test_results_of_several_folders_are_not_put_inside_one(
    run, make_image, files, tmp_path, monkeypatch, inputs, out, place
):
    """A rerun would take them for its sources, and upscale them again."""
    for name in ("a", "b", "b/d", "c/a/d", "c/c/d"):
        make_image(tmp_path / "in" / name / "x.png")
    monkeypatch.chdir(tmp_path / "in")
    code, _, stderr = run(*inputs, "-o", out, "--overwrite")
    assert code == 2
    assert f" would be in {place}, inside an input, " in stderr
    assert stderr.count("\n") == 1
    assert len(files(tmp_path)) == 5


@pytest.mark.parametrize("out", [".", "a/new"])
def test_results_of_several_folders_are_not_read_again(
    run, make_image, files, tmp_path, monkeypatch, out
):
    for name in ("a", "b"):
        make_image(tmp_path / name / "x.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run("a", "b", "-o", out, "--overwrite")[0] == 0
    assert len(files(tmp_path)) == 4


def test_a_source_is_never_replaced(run, make_image, tmp_path):
    one = make_image(tmp_path / "x" / "a.jpg")
    two = make_image(tmp_path / "y" / "a_x4.png")
    code, _, stderr = run(one, two, "-o", tmp_path / "y", "--suffix", "_x4", "--overwrite")
    assert code == 2
    assert "a_x4.png is an input and would be replaced" in stderr


def test_unfinished_files_are_no_images(run, make_image, files, tmp_path):
    """Report 4: left behind by kill -9."""
    make_image(tmp_path / "in" / "a.png")
    make_image(tmp_path / "in" / ".dossr-0123456789abcdef.png")
    code, _, stderr = run(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 0
    assert files(tmp_path / "out") == ["a.png"]
    assert stderr == ""


def test_names_are_unharmed(run, make_image, files, tmp_path):
    """Report 6: umlauts, signs, other scripts, bytes that are no text, the longest name."""
    folder = tmp_path / "Ordner 50% #1 空"
    names = [
        "Großer 50% #1 空.png",
        os.fsdecode(b"caf\xe9.png"),
        "n" * 251 + ".png",
        "a\nb.png",
        "v1.2",
    ]
    for name in names:
        make_image(folder / name, format="PNG")
    make_image(folder / "x.png" / "inside.png")
    make_image(folder / "x.jpg")
    assert run(folder, "-o", tmp_path / "out")[0] == 0
    expected = {*names[:-1], "v1.2.png", "x.png/inside.png", "x.jpg.png"}
    assert set(files(tmp_path / "out")) == expected


def test_a_name_that_gets_too_long_fails_alone(run, make_image, files, tmp_path):
    make_image(tmp_path / "in" / ("n" * 251 + ".png"))
    make_image(tmp_path / "in" / "short.png")
    code, _, stderr = run(tmp_path / "in", "-o", tmp_path / "out", "--format", "webp")
    assert code == 1
    assert "would give a result with a name above 255 bytes; rename it" in stderr
    assert files(tmp_path / "out") == ["short.webp"]


def test_damaged_images_are_named_and_the_others_done(run, make_image, files, tmp_path):
    """Report 6: a JPEG cut in half, a file of 0 bytes, a text called .png."""
    folder = tmp_path / "in"
    make_image(folder / "good.png")
    whole = make_image(folder / "cut.jpg", (64, 64)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no image")
    code, _, stderr = run(folder, "-o", tmp_path / "out")
    assert code == 1
    assert sorted(line.split()[1].rsplit("/")[-1] for line in stderr.splitlines()) == [
        "cut.jpg", "empty.png", "text.png",
    ]  # fmt: skip
    assert files(tmp_path / "out") == ["good.png"]


def test_one_photo_gives_the_same_bytes_everywhere(run, make_image, tmp_path):
    """Report 7: twice in a folder, alone, in another order, with other batches."""
    one = make_image(tmp_path / "in" / "a.png", (40, 40))
    (tmp_path / "in" / "b.png").write_bytes(one.read_bytes())
    make_image(tmp_path / "in" / "0.png", (90, 70), seed=1)
    results = []
    for name, inputs in (
        ("1", [tmp_path / "in"]),
        ("2", [one]),
        ("3", [tmp_path / "in" / "b.png", one]),
    ):
        for batch in (1, 4):
            out = tmp_path / f"out{name}{batch}"
            assert run(*inputs, "-o", f"{out}/", "--tile", 64, "--batch", batch)[0] == 0
            results += [path.read_bytes() for path in out.glob("[ab].png")]
    assert len(results) == 10
    assert len(set(results)) == 1


def test_results_keep_their_names_and_sizes(run, size_of, tmp_path):
    """Report 8: ten one-colour files; no result has another's name, size or factor."""
    (tmp_path / "in").mkdir()
    sizes = {f"{n}.png": (11 + n, 19 - n) for n in range(10)}
    for n, (name, size) in enumerate(sizes.items()):
        Image.new("RGB", size, (25 * n, 255 - 25 * n, 90)).save(tmp_path / "in" / name)
    for scale in (2, 1.5):
        assert run(tmp_path / "in", "-o", tmp_path / f"{scale}", "--scale", scale)[0] == 0
        for name, (width, height) in sizes.items():
            expected = (round(width * scale), round(height * scale))
            assert size_of(tmp_path / f"{scale}" / name) == expected
    for name in sizes:
        alone = tmp_path / f"alone_{name}"
        assert run(tmp_path / "in" / name, "-o", alone, "--scale", 1.5)[0] == 0
        assert alone.read_bytes() == (tmp_path / "1.5" / name).read_bytes()


PATHS = st.lists(st.text("aA.", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join)
SOURCES = st.lists(
    st.builds("{}{}".format, PATHS, st.sampled_from([".png", ".jpg", ".JPG", "", ".v2"])),
    max_size=8, unique=True,
).filter(lambda names: not any(part in ("..", ".") for n in names for part in n.split("/")))  # fmt: skip


@given(SOURCES, st.sampled_from(["", "_x4"]))
def test_no_two_results_have_one_name_on_any_file_system(tmp_path_factory, sources, suffix):
    root, naming = Path("/in"), Naming(".png", suffix)
    items = [Found(root / name, Path(name), root) for name in sources]
    named = [Named(item, Path("/out") / item.relative.parent, naming) for item in items]
    paths = targets(named)
    keys = [same_name(path) for path in paths]
    assert len(set(keys)) == len(keys)
    folders = {same_name(parent) for path in paths for parent in path.parents}
    assert not folders & set(keys)
    plain = [item.target() for item in named]
    counts = [same_name(path) for path in plain]
    for path, usual in zip(paths, plain, strict=True):
        if counts.count(same_name(usual)) == 1 and same_name(usual) not in folders:
            assert path == usual  # only names that clash change
    assert targets(named) == paths


def test_folders_are_told_apart_by_as_few_parts_as_it_takes(tmp_path):
    roots = [tmp_path / "a" / "x", tmp_path / "b" / "x", tmp_path / "y"]
    assert [str(name) for name in root_names(roots).values()] == ["a/x", "b/x", "y"]
