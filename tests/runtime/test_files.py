"""Files that are complete or absent: full disks, killed runs, outputs of other processes.

Real processes, real limits of the system: a test of a full disk fills one.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from dossr.runtime.errors import ImageError
from dossr.runtime.files import remove_leftovers, whole_file, whole_folder, write_whole
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.writer import write_image

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]
WRITTEN = ["png", "jpg", "webp", "tif", "bmp", "ppm", "tga", "jp2", "avif"]


def test_a_file_is_the_old_or_the_new_one_whenever_the_writer_dies(tmp_path):
    """A process that writes continuously is killed at different times."""
    path = tmp_path / "plan.engine"
    program = (
        "import sys; from pathlib import Path\n"
        "from dossr.runtime.files import write_whole\n"
        "n = 0\n"
        "while True:\n"
        "    n = (n + 1) % 256\n"
        "    write_whole(Path(sys.argv[1]), bytes([n]) * (1 << 20))\n"
    )
    for pause in (0.0, 0.013, 0.031):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause)
        writer.kill()
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 1 << 20
        assert len(set(data)) == 1
        path.unlink()


def test_nothing_is_left_beside_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(TypeError):
        write_whole(tmp_path / "x.engine", "text is no buffer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_that_may_not_grow_is_refused_and_the_old_one_stays(
    dossr_run, one_line, noise, toy_bundle, photo, suffix
):
    target = photo.with_name(f"big.{suffix}")
    noise(4).save(target)
    before = target.read_bytes()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    done = dossr_run(photo, "-o", target, "-b", toy_bundle, "--overwrite", preexec_fn=limit)
    assert done.returncode == 1
    assert f"big.{suffix} cannot be written: File too large" in one_line(done.stderr)
    assert target.read_bytes() == before
    assert {path.name for path in photo.parent.iterdir()} == {photo.name, target.name}


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("share", [0.0, 0.6, 0.99])
def test_a_full_disk_leaves_no_file(
    dossr_run, one_line, toy_bundle, photo, small_disk, suffix, share
):
    dossr_run(photo, "-o", photo.with_name(f"whole.{suffix}"), "-b", toy_bundle)
    size = photo.with_name(f"whole.{suffix}").stat().st_size
    disk = small_disk(128)
    free = int(share * size) // 4096 * 4
    (disk / "fill").write_bytes(b"\0" * 1024 * (128 - free))
    done = dossr_run(photo, "-o", disk / f"big.{suffix}", "-b", toy_bundle)
    assert done.returncode == 1
    assert f"big.{suffix} cannot be written: No space left on device" in one_line(done.stderr)
    assert [path.name for path in disk.iterdir()] == ["fill"]


def test_no_kind_of_file_is_left_half_written_on_a_full_disk(small_disk):
    import torch

    disk = small_disk(64)
    old = disk / "results.json"
    write_whole(old, b"old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(old, bytes(1 << 20))
    with pytest.raises((OSError, RuntimeError)), whole_file(disk / "a.ckpt") as temporary:
        torch.save({"tensor": torch.zeros(1 << 18)}, temporary)
    with pytest.raises(OSError, match="No space left"), whole_folder(disk / "bundle") as folder:
        (folder / "weights").write_bytes(bytes(1 << 20))
    assert old.read_bytes() == b"old"
    assert [path.name for path in disk.iterdir()] == ["results.json"]


def test_an_output_that_appears_meanwhile_is_left_as_it_is(tmp_path, photo):
    source = read_image(photo)
    pixels = source.frames[0].pixels.repeat(4, axis=0).repeat(4, axis=1)
    target = tmp_path / "big.png"
    target.write_text("precious")
    with pytest.raises(ImageError, match=r"big\.png cannot be written: it was created meanwhile"):
        write_image(target, [pixels], source, [(128, 128)], replace=False)
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "big.png"}


def test_a_run_without_overwrite_never_replaces_a_file(noise, tmp_path):
    """The third of three outputs is created by another process during the run."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        noise(96).save(folder / name)
    command = [*RUN, folder, "-o", out, "--steps", "2"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    while not (out / "a.png").exists() and process.poll() is None:
        time.sleep(0.01)
    (out / "c.png").write_text("precious")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert (out / "c.png").read_text() == "precious"
    assert "c.png was created meanwhile" in stderr
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png"]


def _age(path):
    os.utime(path, (time.time() - 86_400,) * 2)  # before this process, however long it runs


def test_leftovers_are_removed_and_never_taken_for_images(dossr_run, tmp_path, toy_bundle, photo):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".dossr-0123456789abcdef.png", ".dossr-00112233445566ff.jpg"):
        (out / name).write_bytes(photo.read_bytes()[:50])
        _age(out / name)
    (out / ".dossr-fedcba9876543210").mkdir()
    _age(out / ".dossr-fedcba9876543210")
    done = dossr_run(out, photo, "-o", tmp_path / "out2", "-b", toy_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert dossr_run(photo, "-o", out, "-b", toy_bundle).returncode == 0
    assert [path.name for path in out.iterdir()] == ["photo.png"]


def test_what_a_live_process_writes_is_not_taken_for_a_leftover(
    dossr_run, tmp_path, toy_bundle, photo
):
    with whole_file(tmp_path / "mine.png") as temporary:
        temporary.write_bytes(b"half")
        _age(temporary)
        done = dossr_run(photo, "-o", tmp_path / "big.png", "-b", toy_bundle)
        assert done.returncode == 0
        assert temporary.read_bytes() == b"half"
    assert (tmp_path / "mine.png").read_bytes() == b"half"


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_folder_is_not_lost_when_its_replacement_is_stopped_halfway(tmp_path, end):
    """The process ends between the two renames that exchange the old folder for the new one."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("old")
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dossr.runtime.files import whole_folder\n"
        "rename = Path.rename\n"
        "def stop(path, target):\n"
        f"    if path.name == 'new': {end}\n"
        "    return rename(path, target)\n"
        "Path.rename = stop\n"
        "with whole_folder(Path(sys.argv[1])) as folder: (folder / 'manifest.json').write_text('new')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "bundle")]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0
    for leftover in tmp_path.glob(".dossr-*"):
        _age(leftover)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "old"
    with whole_folder(tmp_path / "bundle") as folder:
        (folder / "manifest.json").write_text("new")
    assert (tmp_path / "bundle" / "manifest.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_users_file_with_a_similar_name_is_kept_and_read(dossr_run, tmp_path, toy_bundle, photo):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(photo, folder / ".dossr-mine.png")
    _age(folder / ".dossr-mine.png")
    assert dossr_run(folder, "-o", folder, "-b", toy_bundle).returncode == 0
    assert (folder / ".dossr-mine.png").read_bytes() == photo.read_bytes()
    with Image.open(folder / ".dossr-mine_upscaled.png") as image:
        assert image.size == (128, 128)


def test_a_thread_that_ends_with_its_process_leaves_no_file(tmp_path):
    program = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from dossr.runtime.files import whole_file\n"
        "opened = threading.Event()\n"
        "def write():\n"
        "    with whole_file(Path(sys.argv[1]) / 'a.png'):\n"
        "        opened.set()\n"
        "        time.sleep(60)\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "opened.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=30)
    assert list(tmp_path.iterdir()) == []
