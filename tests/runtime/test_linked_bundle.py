"""Bundles of links, as in the cache of Hugging Face, and files that stand where data should be."""

import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from dossr.runtime import BundleError, load_pipeline
from dossr.runtime.bundle import DEMO, MANIFEST, open_bundle, sha256

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture
def snapshot(tmp_path):
    """The demo bundle as huggingface_hub stores it: links to files that are named by their hash."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "x"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in DEMO.iterdir():
        blob = blobs / sha256(file)
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("low_memory", [False, True])
def test_a_bundle_of_links_gives_the_same_image(snapshot, device, low_memory):
    pytest.importorskip("openvino" if device == "openvino" else "onnxruntime")
    linked = load_pipeline(snapshot, device, low_memory=low_memory)
    np.testing.assert_array_equal(
        linked.upscale(PHOTO, steps=1), load_pipeline(None, device).upscale(PHOTO, steps=1)
    )


def test_the_folder_itself_may_be_a_link(toy_bundle, tmp_path):
    (tmp_path / "link").symlink_to(toy_bundle)
    assert open_bundle(tmp_path / "link").linked is None
    assert load_pipeline(tmp_path / "link").upscale(PHOTO, steps=1).shape == (96, 64, 3)


def test_a_link_to_another_file_is_refused_by_its_hash(snapshot):
    (snapshot / "decoder.weights").unlink()
    (snapshot / "decoder.weights").symlink_to(DEMO / "encoder.weights")
    with pytest.raises(BundleError, match=r"decoder\.weights (must have|was changed)"):
        open_bundle(snapshot)


@pytest.mark.parametrize("target", ["nowhere", "decoder.weights"])
def test_a_link_to_nothing_or_to_itself_is_named(snapshot, target):
    (snapshot / "decoder.weights").unlink()
    (snapshot / "decoder.weights").symlink_to(target)
    with pytest.raises(
        BundleError, match=rf"decoder\.weights is a link to {target}, which is missing"
    ):
        open_bundle(snapshot)


def test_links_to_another_disk_are_read_where_the_engine_can(snapshot, monkeypatch):
    def fail(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("pathlib.Path.hardlink_to", fail)
    bundle = open_bundle(snapshot)
    assert bundle.path("decoder", "cpu").parent == snapshot
    with pytest.raises(BundleError) as caught:
        bundle.path("decoder", "openvino")
    assert re.fullmatch(
        r"OpenVINO reads no files that are links out of .*, and they cannot be linked anew \(Invalid "
        r"cross-device link\); copy the bundle with cp -rL, or use --device cpu",
        str(caught.value),
    )


def test_the_folder_of_hard_links_ends_with_its_process_or_after_the_next_one(snapshot, tmp_path):
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from dossr.runtime.bundle import open_bundle\n"
        f"bundle, again = (open_bundle(Path({str(snapshot)!r})) for _ in range(2))\n"
        "assert bundle.linked == again.linked\n"
        "assert (bundle.linked / 'decoder.weights').is_file()\n"
        "print(bundle.linked, flush=True)\n"
        "if sys.argv[1:]: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    links = tmp_path / "cache" / "dossr" / "links"
    for arguments, left in ([], 0), (["kill"], 1), ([], 0):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == (-signal.SIGKILL if arguments else 0), done.stderr
        assert len(list(links.iterdir())) == left
        for folder in links.iterdir():
            os.utime(
                folder, (0, 0)
            )  # older than the next process, whose start is rounded to its clock
    assert (snapshot / "decoder.weights").is_file()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (POINTER, "it is a Git LFS pointer, not the file; run git lfs pull"),
        (b"/annex/objects/SHA256E-s44203--4d7a.onnx\n", "it is a git-annex pointer"),
        (b"\n<!DOCTYPE html>\n<html><title>Sign in</title>", "it is a web page, not the file"),
        (b"\xef\xbb\xbf<HTML><body>404", "it is a web page, not the file"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "it is a web page, not the file"),
    ],
)
@pytest.mark.parametrize("name", ["decoder.cpu.onnx", "decoder.weights", MANIFEST])
def test_what_stands_for_a_file_is_named(demo, data, said, name):
    (demo / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"^[^\n]*{re.escape(name)}[^\n]*; {re.escape(said)}"):
        open_bundle(demo)
