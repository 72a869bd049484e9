"""A real cluster of two workers: killed workers, reruns, and what is refused before the work."""

import errno
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from click import UsageError
from PIL import Image

from dossr.runtime.fleet import cluster as cluster_module
from dossr.runtime.fleet import upscale_dataset
from dossr.runtime.fleet.cluster import Worker, choose_worker, count_workers, make_ready
from dossr.runtime.fleet.node import BundleSource
from dossr.runtime.fleet.places import find_place

IMAGES = 12
SETTINGS = {"seed": 7, "steps": 1}


def _files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def _reader_of(pipe, seconds=300):
    """Open a pipe once a worker reads from it; return its end and the worker's process."""
    until = time.monotonic() + seconds
    while True:
        try:
            end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            assert time.monotonic() < until, f"nothing reads {pipe}"
            time.sleep(0.05)
    while time.monotonic() < until:
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                if link.readlink() == pipe and link.parts[2] != str(os.getpid()):
                    return end, int(link.parts[2])
            except OSError:
                continue
    raise AssertionError(f"no process has {pipe} open")


def _kill_readers(pipe, times, data=None):
    """Kill the worker that reads a pipe, as often as asked, then write the data to the next one."""
    try:
        for _ in range(times):
            end, process = _reader_of(pipe)
            os.kill(process, signal.SIGKILL)
            os.close(end)
            while Path(f"/proc/{process}/stat").exists() and _state(process) != "Z":
                time.sleep(0.02)
        if data:
            end, _ = _reader_of(pipe)
            os.set_blocking(end, True)
            os.write(end, data)
            os.close(end)
    except BaseException:
        end = os.open(pipe, os.O_RDWR)
        pipe.unlink()
        os.close(end)  # who reads the pipe, or will, does not wait for ever
        raise


def _state(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.fixture(scope="module")
def run(cluster, toy_bundle, make_images, tmp_path_factory):
    """A run in which a worker is killed three times: once by one image, twice by another."""
    if sys.platform != "linux":
        pytest.skip("which process reads a pipe is found in /proc")
    home = tmp_path_factory.mktemp("fleet")
    photos = make_images(home / "photos", IMAGES)
    (photos / "bad.png").write_bytes(b"no image")
    once, twice = home / "once.png", home / "twice.png"
    killers = []
    for pipe, times, data in ((once, 1, (photos / "00.png").read_bytes()), (twice, 2, None)):
        os.mkfifo(pipe)
        killers.append(
            threading.Thread(target=_kill_readers, args=(pipe, times, data), daemon=True)
        )
        killers[-1].start()
    report = upscale_dataset(
        [once, photos, twice], home / "out", bundle=toy_bundle, threads=1, workers=2, **SETTINGS
    )
    for killer in killers:
        killer.join()
    return home, report


def test_every_image_is_upscaled_as_by_one_process_while_workers_are_killed(
    run, dossr_run, toy_bundle
):
    home, report = run
    assert (report.done, report.skipped, report.workers) == (IMAGES + 1, 0, 2)
    alone = home / "alone"
    dossr_run(home / "photos", "-o", alone, "-b", toy_bundle, "--seed", 7)  # one step
    expected = _files(alone)
    expected["once.png"] = expected["00.png"]
    assert len(expected) == IMAGES + 1
    assert _files(home / "out") == expected
    for path in (home / "out").glob("*.png"):
        with Image.open(path) as image:
            assert image.size == (64, 80)


def test_an_image_that_kills_two_workers_and_a_bad_one_are_rows(run, read_rows):
    home, report = run
    rows = {Path(row["input"]).name: row for row in read_rows(home / "out")}
    assert len(rows) == len(read_rows(home / "out")) == IMAGES + 3
    failed = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert set(failed) == {"twice.png", "bad.png"}
    assert "the worker died 2 times while it was in work" in failed["twice.png"]
    assert failed["bad.png"].endswith("bad.png must be an image, got text")
    assert sorted(failed.values()) == sorted(why for _, why in report.failures)
    assert all(
        row["width"] == 64 and row["seconds"] > 0 for row in rows.values() if not row["error"]
    )


def test_a_rerun_does_what_is_left_and_the_next_one_nothing(run, toy_bundle, read_rows):
    home, _ = run
    photos, out = home / "photos", home / "out"
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
    (photos / "bad.png").write_bytes((photos / "01.png").read_bytes())
    (out / "03.png").unlink()
    settings = {"bundle": toy_bundle, "threads": 1, "workers": 1, **SETTINGS}
    report = upscale_dataset(photos, out, **settings)
    assert (report.done, report.skipped, report.failures) == (2, IMAGES - 1, [])
    changed = {p.name for p in out.glob("*.png") if before.get(p) != p.stat().st_mtime_ns}
    assert changed == {"bad.png", "03.png"}
    rows = read_rows(out)
    again = upscale_dataset(photos, out, **settings)
    assert (again.done, again.skipped, again.workers) == (0, IMAGES + 1, 0)
    assert read_rows(out) == rows


def test_results_that_a_killed_driver_did_not_record_are_recorded(run, toy_bundle, read_rows):
    home, _ = run
    out = home / "out"
    for part in (out / "_manifest").glob("*.jsonl"):
        part.unlink()
    upscale_dataset(home / "photos", out, bundle=toy_bundle, **SETTINGS)
    assert len(read_rows(out)) == IMAGES + 1
    assert all(row["seconds"] is None and row["error"] is None for row in read_rows(out))


def test_results_of_other_settings_are_not_mixed(run, toy_bundle):
    home, _ = run
    with pytest.raises(
        ValueError, match="is of results with seed 7, and seed is 8 now; give anoth"
    ):
        upscale_dataset(home / "photos", home / "out", bundle=toy_bundle, seed=8, steps=1)


def test_more_than_the_cluster_has_is_refused(cluster):
    for worker, asked, message in (
        (Worker(1, 1.0, 0), None, "a worker needs 1 core and 1 GPU, and the largest node has 2 cores, 0 G"),
        (Worker(3, 0.0, 0), None, "a worker needs 3 cores, and the largest"),
        (Worker(1, 0.0, 1 << 50), None, "1 core and 1125899.9 GB of memory, and"),
        (Worker(1, 0.0, 0), 3, "--workers must be at most 2 on this cluster, with 1 core each, got 3"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            count_workers(worker, asked)
    assert count_workers(Worker(1, 0.0, 1 << 20), None) == 2
    assert choose_worker(None, None, 5, "auto") == Worker(2, 0.0, 5)
    assert choose_worker(None, None, 5, "cuda") == Worker(1, 1.0, 0)
    with pytest.raises(UsageError, match=r"a share up to 1 or a whole number, got 1.5"):
        choose_worker(None, 1.5, 0, "cuda")


def test_a_run_tells_once_that_others_hold_the_cluster_and_waits(cluster, monkeypatch):
    holder = cluster.remote(num_cpus=2)(type("Holder", (), {"ready": lambda self: None})).remote()
    cluster.get(holder.ready.remote())
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.5)
    said = []

    def log(message):
        said.append(message)
        cluster.kill(holder)

    cluster_module.wait_for_room(Worker(1, 0.0, 0), log)
    cluster_module.wait_for_room(Worker(1, 0.0, 0), said.append)
    [message] = said
    assert message.startswith(
        "the cluster is busy: a worker needs 1 core of one node, and 0 cores, 0 GPUs and "
    )
    assert message.endswith(" are free in all; waiting")


def test_a_bundle_that_a_node_lacks_or_has_otherwise_is_named(cluster, toy_bundle, tmp_path):
    worker = Worker(1, 0.0, 0)
    with pytest.raises(
        UsageError, match=f"{tmp_path}/gone is not a bundle: it has no manifest.json"
    ):
        make_ready(BundleSource(find_place(f"{tmp_path}/gone"), "0" * 64), worker)
    with pytest.raises(UsageError, match="is another one than where the run was started; copy it"):
        make_ready(BundleSource(find_place(str(toy_bundle)), "0" * 64), worker)


def test_the_command_prints_one_line_and_json(run, toy_bundle, capsys):
    from dossr.runtime.cli import main

    home, _ = run
    arguments = f"{home}/photos -o {home}/out -b {toy_bundle} --seed 7 --steps 1".split()
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as end:
            main([*arguments, *more, "--ray"])
        assert end.value.code == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        if more:
            assert json.loads(printed.out)["skipped"] == IMAGES + 1
        else:
            manifest = home / "out" / "_manifest"
            assert printed.out == f"nothing to do: {IMAGES + 1} images are done; {manifest}\n"
