"""Compiled models on disk: imported where they fit, else compiled; never trusted when damaged."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines.openvino import blobs, compiled_model
from dossr.runtime.engines.openvino.blobs import BlobCache, BlobKey

KEY = BlobKey(
    {"a.onnx": "0" * 64}, "1.0", "2026.4", "a CPU", ("BF16",), 2, "fp32", {"x": (1, 4, 8, 8)}
)


@pytest.fixture
def reads(monkeypatch):
    """The files that are read in order to compile them."""
    names = []
    original = compiled_model.read_model
    monkeypatch.setattr(
        compiled_model, "read_model", lambda path: names.append(path.name) or original(path)
    )
    return names


@pytest.fixture
def decode(openvino, case):
    """decode(precision) runs the demo's decoder on a new device."""

    def run(precision="fp32"):
        engine = openvino(precision).open(open_bundle(DEMO), "decoder")
        return engine.run(**case("decoder").inputs)["image"]

    return run


def test_the_second_start_imports_the_same_network(cache, reads, decode):
    first = decode()
    np.testing.assert_array_equal(decode(), first)
    assert reads == [open_bundle(DEMO).path("decoder", "openvino").name]
    assert len(list(cache.iterdir())) == 1


def test_weights_stay_in_the_bundle(cache, openvino, case):
    openvino().open(open_bundle(DEMO), "denoiser").run(**case("denoiser").inputs)
    (blob,) = cache.iterdir()
    assert blob.stat().st_size < 0.5 * (DEMO / "denoiser.weights").stat().st_size


def test_a_precision_has_its_own(cache, reads, decode):
    decode("fp32")
    decode("bf16")
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "of another version"])
def test_a_damaged_blob_is_compiled_again_and_replaced(cache, reads, decode, damage):
    first = decode()
    (path,) = cache.iterdir()
    good = path.read_bytes()
    middle = len(good) // 2
    spoiled = {
        "cut": good[:-1],
        "emptied": b"",
        "changed": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
    }
    if damage in spoiled:
        path.write_bytes(spoiled[damage])
    else:  # its hash is right, and OpenVINO refuses it
        BlobCache(print).write(KEY, b"not of this OpenVINO" * 10)
        (other,) = set(cache.iterdir()) - {path}
        other.replace(path)
    np.testing.assert_array_equal(decode(), first)
    assert len(reads) == 2
    decode()
    assert len(reads) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"a.onnx": "1" * 64}},
        {"toolkit": "1.1"},
        {"version": "2026.5"},
        {"processor": "another CPU"},
        {"capabilities": ()},
        {"cores": 4},
        {"precision": "bf16"},
        {"shapes": {"x": (1, 4, 8, 16)}},
    ],
)
def test_everything_that_it_depends_on_is_in_its_name(cache, change):
    blobs = BlobCache(print)
    blobs.write(KEY, b"network")
    assert blobs.read(KEY) == b"network"
    assert blobs.read(replace(KEY, **change)) is None


def test_a_folder_that_cannot_be_made_is_told_once_and_the_networks_run(
    cache, decode, said, openvino, case
):
    cache.parents[1].write_text("a file in the place of the folder")
    device, bundle = openvino(), open_bundle(DEMO)
    for stage in ("decoder", "encoder"):
        device.open(bundle, stage).run(**case(stage).inputs)
    told = [line for line in said if "cannot be kept" in line]
    assert len(told) == 1
    assert told[0].endswith("every start compiles them again")


def test_a_full_disk_keeps_nothing_and_the_network_runs(
    small_disk, monkeypatch, decode, said, case
):
    disk = small_disk(64)
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    found = decode()
    assert found.shape == case("decoder").outputs["image"].shape
    assert any("No space left on device" in line for line in said)
    assert [path for path in disk.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("error", [RuntimeError("can't alloc"), MemoryError(), ValueError()])
def test_a_network_that_cannot_be_exported_runs(cache, monkeypatch, decode, error):
    def export_model(self):
        raise error

    monkeypatch.setattr(compiled_model.ov.CompiledModel, "export_model", export_model)
    assert np.isfinite(decode()).all()
    assert not cache.exists()


def test_without_a_home_folder_the_network_runs(monkeypatch, decode, said):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(blobs, "cache_folder", no_home)
    assert np.isfinite(decode()).all()


def test_the_oldest_make_room(cache, monkeypatch):
    kept = BlobCache(print)
    monkeypatch.setattr(blobs, "KEPT", 3 * (100 + 32))
    keys = [replace(KEY, cores=number) for number in range(5)]
    for key in keys:
        kept.write(key, b"x" * 100)
    assert [kept.read(key) is not None for key in keys] == [False, False, True, True, True]


def test_a_very_large_blob_is_not_kept(cache, monkeypatch):
    monkeypatch.setattr(blobs, "LARGEST", 10)
    kept = BlobCache(print)
    kept.write(KEY, b"x" * 11)
    assert not cache.exists()


def test_two_processes_at_once_give_the_same_network(cache, reads, decode):
    program = """
import numpy as np
from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines.device import load_device
from dossr.runtime.engines.precision import FP32
engine = load_device("openvino", precision=FP32, log=lambda line: None).open(open_bundle(DEMO), "decoder")
found = engine.run(x=np.ones((1, 6, 16, 16), np.float32))["image"]
print(float(found.astype(np.float64).sum()))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = {process.communicate(timeout=100)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(found) == 1
    assert len(list(cache.iterdir())) == 1
