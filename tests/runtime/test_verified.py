"""A large file is hashed once, and again when it changed."""

import json
import os
import shutil

import pytest

from dossr.runtime import load_pipeline
from dossr.runtime.bundle import FileRecord, open_bundle, sha256, verified
from dossr.runtime.bundle import integrity as integrity_module
from dossr.runtime.errors import BundleError


@pytest.fixture
def hashed(monkeypatch, tmp_path):
    """The names of the files that are hashed; every file counts as large."""
    names = []

    def hash_and_note(path, advance=None):
        names.append(path.name)
        return sha256(path, advance)

    monkeypatch.setattr(verified, "LEAST", 1)
    monkeypatch.setattr(integrity_module, "sha256", hash_and_note)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return names


def test_a_file_is_hashed_at_the_first_opening_only(fresh_bundle, hashed):
    open_bundle(fresh_bundle)
    assert len(hashed) == 4
    open_bundle(fresh_bundle)
    assert len(hashed) == 4


def test_a_linked_file_is_not_hashed_again_for_the_hard_links_of_another_process(
    toy_bundle, hashed, tmp_path
):
    for file in toy_bundle.iterdir():
        (tmp_path / "blobs").mkdir(exist_ok=True)
        (tmp_path / "snapshot").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "blobs")
        (tmp_path / "snapshot" / file.name).symlink_to(f"../blobs/{file.name}")
    open_bundle(tmp_path / "snapshot")
    for blob in (tmp_path / "blobs").iterdir():
        (tmp_path / "hard").hardlink_to(blob)
        (tmp_path / "hard").unlink()
    hashed.clear()
    open_bundle(tmp_path / "snapshot")
    assert hashed == []
    os.utime(tmp_path / "blobs" / "denoiser.cpu.onnx", ns=(1, 1))
    open_bundle(tmp_path / "snapshot")
    assert hashed == ["denoiser.cpu.onnx"]


def test_files_of_one_name_in_two_folders_are_two(hashed, tmp_path):
    """As ``denoiser.weights`` and ``int8/denoiser.weights`` of a bundle with int8."""
    paths = [tmp_path / "bundle" / name for name in ("a.weights", "int8/a.weights")]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(number + 1))
        verified.VerifiedFiles(tmp_path / "bundle").add(path, str(number))
    found = verified.VerifiedFiles(tmp_path / "bundle")
    assert [found.has(path, str(n)) for n, path in enumerate(paths)] == [True, True]
    assert not found.has(paths[0], "1")


def test_every_file_is_hashed_again_on_demand(fresh_bundle, monkeypatch):
    """A disk that loses a bit leaves size and times as they were."""
    monkeypatch.setattr(verified.VerifiedFiles, "has", lambda *arguments: True)
    path = fresh_bundle / "denoiser.cpu.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    open_bundle(fresh_bundle)
    with pytest.raises(BundleError, match="was changed: its SHA-256"):
        open_bundle(fresh_bundle, again=True)
    with pytest.raises(BundleError, match="was changed: its SHA-256"):
        load_pipeline(fresh_bundle, verify=True)


def test_a_file_that_was_touched_is_hashed_again_and_damage_is_found(fresh_bundle, hashed):
    open_bundle(fresh_bundle)
    path = fresh_bundle / "denoiser.cpu.onnx"
    hashed.clear()
    os.utime(path, ns=(1, 1))
    open_bundle(fresh_bundle)
    assert hashed == [path.name]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="was changed: its SHA-256"):
        open_bundle(fresh_bundle)


def test_another_hash_in_the_manifest_is_not_believed(fresh_bundle, hashed):
    open_bundle(fresh_bundle)
    manifest = fresh_bundle / "manifest.json"
    document = json.loads(manifest.read_text())
    document["files"]["denoiser.cpu.onnx"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(document))
    with pytest.raises(BundleError, match="was changed"):
        open_bundle(fresh_bundle)


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b"[]", b'"x"', b"\xff"])
def test_a_damaged_record_only_costs_time(fresh_bundle, hashed, content):
    open_bundle(fresh_bundle)
    (record,) = (verified.cache_folder() / "verified").iterdir()
    record.write_bytes(content)
    open_bundle(fresh_bundle)
    assert len(hashed) == 8


def test_a_cache_that_cannot_be_written_only_costs_time(fresh_bundle, hashed, tmp_path):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    open_bundle(fresh_bundle)
    open_bundle(fresh_bundle)
    assert len(hashed) == 8


def test_without_a_home_folder_every_file_is_hashed(fresh_bundle, hashed, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setattr(verified.Path, "home", no_home)
    open_bundle(fresh_bundle)
    open_bundle(fresh_bundle)
    assert len(hashed) == 8


def test_small_files_leave_no_record(fresh_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    assert isinstance(next(iter(open_bundle(fresh_bundle).manifest.files.values())), FileRecord)
    assert not (tmp_path / "cache").exists()
