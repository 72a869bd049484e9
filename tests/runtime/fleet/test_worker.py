"""A worker in this process: what it does with images, disks and errors."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from dossr.runtime.cli.arguments import to_arguments
from dossr.runtime.cli.checks import check_options
from dossr.runtime.cli.command import main
from dossr.runtime.fleet import worker as fleet_worker
from dossr.runtime.fleet.attempts import begin, begun, new_attempts
from dossr.runtime.fleet.node import find_bundle
from dossr.runtime.fleet.places import find_place
from dossr.runtime.fleet.worker import Work, Worker


@pytest.fixture
def work(cluster, toy_bundle, tmp_path):
    """work(out, *options) is the work of a worker that writes to a folder."""

    def make(out, *options):
        line = ["x", "-o", str(out), "--steps", "1", "--threads", "1", *options]
        with main.make_context("dossr-run", ["@x", *line[1:]]) as context:
            arguments = to_arguments(context.params)
        settings = replace(check_options(arguments, ".png"), skip_existing=not arguments.overwrite)
        bundle, _ = find_bundle(str(toy_bundle))
        system = find_place(str(tmp_path)).system
        return Work(arguments, settings, bundle, (system,), find_place(str(out)), new_attempts())

    return make


def _table(*paths):
    return pa.Table.from_pylist([
        {"number": number, "source": str(path), "name": path.name, "system": 0, "target": path.name}
        for number, path in enumerate(paths)
    ])  # fmt: skip


def test_a_full_disk_is_an_error_of_its_images_and_nothing_is_half_written(
    work, make_images, small_disk, tmp_path
):
    photos = make_images(tmp_path / "photos", 3)
    disk = small_disk(12)  # one result has 8 kB
    rows = Worker(work(disk))(_table(*sorted(photos.iterdir()))).to_pylist()
    assert [row["error"] is None for row in rows] == [True, False, False]
    for row in rows[1:]:
        assert row["error"] == f"{disk}/{row['input']} cannot be written: No space left on device"
    assert [path.name for path in disk.iterdir()] == ["00.png"]


def test_an_unexpected_error_is_a_row_of_its_image(work, make_images, tmp_path, monkeypatch):
    photos = make_images(tmp_path / "photos", 3)

    def run(pipeline, jobs, *rest, real=fleet_worker.run_jobs):
        if any(job.name == "01.png" for job in jobs):
            raise KeyError("a fault of the program")
        return real(pipeline, jobs, *rest)

    monkeypatch.setattr(fleet_worker, "run_jobs", run)
    rows = Worker(work(tmp_path / "out"))(_table(*sorted(photos.iterdir()))).to_pylist()
    assert [row["error"] for row in rows] == [None, "01.png: 'a fault of the program'", None]


def test_what_exists_is_skipped_unless_it_is_to_be_replaced(work, make_images, tmp_path):
    photos, out = make_images(tmp_path / "photos", 2), tmp_path / "out"
    out.mkdir()
    (out / "00.png").write_bytes(b"of an earlier attempt")
    table = _table(*sorted(photos.iterdir()))
    rows = Worker(work(out))(table).to_pylist()
    assert [row["seconds"] is None for row in rows] == [True, False]
    assert (out / "00.png").read_bytes() == b"of an earlier attempt"
    rows = Worker(work(out, "--overwrite"))(table).to_pylist()
    assert all(row["seconds"] > 0 and row["error"] is None for row in rows)


def test_an_image_is_begun_twice_and_no_more_and_never_again_once_it_is_done(
    work, make_images, tmp_path
):
    """Workers that died have begun the first image once, the second one twice, the third one never."""
    photos = make_images(tmp_path / "photos", 3)
    given = work(tmp_path / "out", "--overwrite")
    for number in (0, 1, 1):
        begin(given.attempts, number)
    call, table = Worker(given), _table(*sorted(photos.iterdir()))
    rows = call(table).to_pylist()
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert "01.png: the worker died 2 times while it was in work" in rows[1]["error"]
    again = call(table).to_pylist()
    assert [row["seconds"] for row in again] == [None] * 3
    assert [row["error"] for row in again] == [row["error"] for row in rows]
    given.attempts.forget.remote([0, 1, 2])
    assert begun(given.attempts, [0, 1, 2]) == {}


def test_a_worker_whose_networks_cannot_be_opened_returns_one_line(work, photo, tmp_path):
    given = work(tmp_path / "out", "--precision", "bf16")
    [row] = Worker(given)(_table(photo, photo)).to_pylist()
    assert row["fatal"].startswith(
        "precision bf16 is not for the device cpu, which takes auto and f"
    )
    assert not (tmp_path / "out").exists()


def test_a_worker_that_dies_while_it_opens_the_networks_is_not_started_without_end(
    work, photo, tmp_path, monkeypatch
):
    def die(_):
        raise KeyboardInterrupt  # as nothing that a worker handles

    given = work(tmp_path / "out")
    Worker(given)  # one that opens is not counted
    monkeypatch.setattr(fleet_worker, "open_pipeline", die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Worker(given)
    [row] = Worker(given)(_table(photo)).to_pylist()
    assert " died 2 times while it opened the networks; upscale one image there" in row["fatal"]


def test_without_a_cluster_or_without_ray_the_command_says_so(
    photo, dossr_run, one_line, tmp_path, toy_bundle
):
    words = [photo, "-o", tmp_path / "out", "-b", toy_bundle, "--ray", "127.0.0.1:9"]
    ended = dossr_run(*words)
    assert ended.returncode == 2
    assert "no Ray cluster at 127.0.0.1:9: " in one_line(ended.stderr)
    hidden = tmp_path / "hidden" / "ray"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")")
    path = os.pathsep.join([str(hidden.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = dossr_run(*words, env={**os.environ, "PYTHONPATH": path})
    assert ended.returncode == 2
    assert one_line(ended.stderr) == (
        "dossr-run: No module named 'ray'; install it with: pip install 'dossr[ray]'\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["@list.txt", "-o", "out"], "@list.txt is a URI or a list, which need --ray"),
        (["photo.png", "-o", "s3://b/out"], "s3://b/out is a URI or a list, which need --ray"),
        (["photo.png", "-o", "s3://K:S/T@b/out?k=v"], "s3://b/out is a URI or a list, which need --ray"),
        (["photo.png", "-o", "out", "--workers", "2"], "--workers and --gpus-per-worker need --ray"),
        (["-", "-o", "out", "--ray"], "--ray reads files and URIs, not standard input"),
        (["photo.png", "-o", "-", "--ray"], "-o must be a folder or a URI with --ray, got '-'"),
        (["photo.png", "-o", "x.png", "--ray"], "-o must be a folder with --ray, got x.png"),
        (["photo.png", "-o", "out", "--compare", "c.html", "--ray"], "--compare cannot be had with --ray"),
        (["photo.png", "-o", "out", "--dry-run", "--ray"], "--dry-run cannot be had with --ray"),
        (["photo.png", "-o", "out", "--seeds", "3", "--ray"], "--seeds cannot be had with --ray"),
        (["photo.png", "-o", "out", "--tile", "50", "--ray"], "--tile must be 0 or a multiple of 4 from 16 on, got 50"),
        (["photo.png", "-o", "out", "-b", ".", "--ray"], " is not a bundle: it has no manifest.json; create one with"),
        (["@empty.txt", "-o", "out", "--ray"], "no images in @empty.txt: nothing is listed"),
        (["@stream.txt", "-o", "out", "--ray"], "stream.txt has a line -; --ray does not read standard input"),
        (["photo.png", "-o", "out", "--ray", "--overwrite", "--skip-existing"], "contradict each other"),
        (["@none.txt", "-o", "out", "--ray"], "none.txt cannot be read: "),
        (["-o", "out", "--ray", "photo.png"], "Missing argument"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_before_the_work(photo, words, message, monkeypatch):
    monkeypatch.chdir(photo.parent)
    Path("empty.txt").write_text("\n\n")
    Path("stream.txt").write_text("photo.png\n-\n")
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 2
    assert message in ended.output
    assert not Path("out").exists()


def test_a_manifest_that_cannot_be_written_ends_the_run_in_one_line(
    cluster, toy_bundle, make_images, small_disk, tmp_path, capsys
):
    """The settings and one result fill the disk: neither the second result nor the rows have room."""
    photos, disk = make_images(tmp_path / "photos", 2), small_disk(12)
    line = ["-b", toy_bundle, "--steps", 1, "--threads", 1, "--workers", 1, "--json", "--ray"]
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in (photos, "-o", disk, *line)])
    assert end.value.code == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["done"], len(document["failed"])) == (1, 1)
    assert document["stopped"].startswith(f"{disk}/_manifest/")
    assert document["stopped"].endswith(".jsonl cannot be written: No space left on device")
    assert [path.name for path in (disk / "_manifest").iterdir()] == ["settings.json"]
