"""Golden vectors: written once, read anywhere, and what an engine must reproduce."""

from dataclasses import replace

import numpy as np
import pytest

from dossr.runtime.bundle import (
    DEMO,
    FileRecord,
    GoldenCase,
    check_golden,
    open_bundle,
    sha256,
)
from dossr.runtime.bundle import golden as golden_module
from dossr.runtime.bundle.golden import BOUNDS, DeviationError, read_golden, write_golden
from dossr.runtime.engines.device import Host
from dossr.runtime.errors import BundleError


def _cases():
    random = np.random.default_rng(0)
    lr = random.random((1, 3, 4, 4), dtype=np.float32)
    restored = lr.repeat(4, 2).repeat(4, 3)
    mean = random.random((1, 4, 2, 2), dtype=np.float32)
    return {
        "restorer": [GoldenCase({"lr": lr}, {"restored": restored})],
        "encoder": [GoldenCase({"restored": restored}, {"mean": mean, "std": mean + 1}, 7)],
    }


def _manifest(bundle, golden):
    return replace(open_bundle(bundle).manifest, golden=golden)


def test_what_is_written_is_read_and_shared_arrays_are_stored_once(tmp_path, toy_bundle):
    cases, path = _cases(), tmp_path / "golden.npz"
    manifest = _manifest(toy_bundle, write_golden(path, cases))
    for stage, expected in cases.items():
        (case,) = read_golden(path, manifest, stage)
        assert case.time == expected[0].time
        for found, exact in (
            (case.inputs, expected[0].inputs),
            (case.outputs, expected[0].outputs),
        ):
            assert found.keys() == exact.keys()
            assert all(np.array_equal(found[name], exact[name]) for name in exact)
    with np.load(path) as arrays:
        assert len(arrays.files) == 4
    again = tmp_path / "again.npz"
    write_golden(again, cases)
    assert again.read_bytes() == path.read_bytes()


def _rewritten(path, change):
    """Write the archive again, with ``change`` applied to every array."""
    with np.load(path) as arrays:
        changed = {name: change(arrays[name]) for name in arrays.files}
    np.savez_compressed(path, **changed)


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "no archive": lambda path: path.write_bytes(b"x"),
    "missing": lambda path: path.unlink(),
    "another shape": lambda path: _rewritten(path, lambda array: array[:, :1]),
    "another type": lambda path: _rewritten(path, lambda array: array.astype(np.float64)),
    "objects": lambda path: _rewritten(path, lambda array: array.astype(object)),
    "unknown compression": lambda path: path.write_bytes(
        path.read_bytes().replace(b"PK\x03\x04\x2d\x00\x00\x00\x08", b"PK\x03\x04\x2d\x00\x00\x00\x63")
        .replace(b"PK\x01\x02\x2d\x03\x2d\x00\x00\x00\x08", b"PK\x01\x02\x2d\x03\x2d\x00\x00\x00\x63")
    ),
    "flipped bits": lambda path: path.write_bytes(
        bytes(b ^ 0x5A if 100 < i < 160 else b for i, b in enumerate(path.read_bytes()))
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line(tmp_path, toy_bundle, damage):
    path = tmp_path / "golden.npz"
    manifest = _manifest(toy_bundle, write_golden(path, _cases()))
    DAMAGES[damage](path)
    with pytest.raises(BundleError, match=r"^[^\n]*golden\.npz is damaged: [^\n]*$"):
        read_golden(path, manifest, "restorer")


def test_an_archive_that_would_fill_the_memory_is_refused_before_it_is_read(
    tmp_path, toy_bundle, monkeypatch
):
    path = tmp_path / "golden.npz"
    manifest = _manifest(toy_bundle, write_golden(path, _cases()))
    monkeypatch.setattr(golden_module, "_LARGEST", 1000)
    with pytest.raises(BundleError, match="must hold at most 1000 bytes, got "):
        read_golden(path, manifest, "restorer")


@pytest.mark.parametrize(
    "change",
    [
        lambda golden: golden.update(painter=golden["restorer"]),
        lambda golden: golden["restorer"][0].inputs.clear(),
        lambda golden: golden["restorer"][0].outputs.update(more="key"),
    ],
)
def test_records_of_other_tensors_are_refused(tmp_path, fresh_bundle, change):
    path = fresh_bundle / "golden.npz"
    records = write_golden(path, _cases())
    change(records)
    manifest = open_bundle(fresh_bundle).manifest
    files = {**manifest.files, path.name: FileRecord(path.stat().st_size, sha256(path))}
    replace(manifest, golden=records, files=files).write(fresh_bundle)
    with pytest.raises(BundleError, match="is damaged: golden "):
        open_bundle(fresh_bundle)


def test_an_engine_that_agrees_gives_its_largest_errors():
    case = _cases()["restorer"][0]

    def run(lr):
        return {"restored": lr.repeat(4, 2).repeat(4, 3) * np.float32(1.001)}

    assert check_golden("restorer", run, [case, case], 0.01) == {
        "restored": pytest.approx(0.001, rel=1e-2)
    }


@pytest.mark.parametrize("wrong", [1.1, np.nan, np.inf])
def test_an_engine_that_differs_is_refused_with_its_time(wrong):
    case = _cases()["encoder"][0]

    def run(restored):
        return {"mean": case.outputs["mean"] * np.float32(wrong)}

    with pytest.raises(
        DeviationError, match=r"^the encoder must give 'mean' at time 7 within 1e-02"
    ):
        check_golden("encoder", run, [case], 0.01)


def test_the_demo_on_the_cpu_gives_its_golden_vectors():
    bundle, host = open_bundle(DEMO), Host()
    for stage in bundle.manifest.stages:
        cases = bundle.golden(stage)
        assert cases
        worst = check_golden(stage, host.open(bundle, stage).run, cases, BOUNDS["fp16"])
        assert max(worst.values()) < 1e-3
    times = {case.time for case in bundle.golden("denoiser")}
    assert {499, 399, 299, 200, 100} <= times
