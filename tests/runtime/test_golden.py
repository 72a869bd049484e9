"""Golden vectors: written once, read anywhere, and what an engine must reproduce."""

import numpy as np
import pytest

from dossr.runtime.bundle import DEMO, GoldenCase, check_golden, open_bundle
from dossr.runtime.bundle.golden import BOUNDS, read_golden, write_golden
from dossr.runtime.engines.device import Host
from dossr.runtime.errors import BundleError, EngineError


def _cases():
    lr = np.random.default_rng(0).random((1, 3, 4, 4), dtype=np.float32)
    restored = lr.repeat(4, 2).repeat(4, 3)
    return {
        "restorer": [GoldenCase({"lr": lr}, {"restored": restored})],
        "encoder": [GoldenCase({"restored": restored}, {"mean": lr + 1}, 7)],
    }


def test_what_is_written_is_read_and_shared_arrays_are_stored_once(tmp_path):
    cases, path = _cases(), tmp_path / "golden.npz"
    records = write_golden(path, cases)
    for stage, expected in cases.items():
        (case,) = read_golden(path, records[stage])
        assert case.time == expected[0].time
        for found, exact in (
            (case.inputs, expected[0].inputs),
            (case.outputs, expected[0].outputs),
        ):
            assert found.keys() == exact.keys()
            assert all(np.array_equal(found[name], exact[name]) for name in exact)
    with np.load(path) as arrays:
        assert len(arrays.files) == 3
    again = tmp_path / "again.npz"
    write_golden(again, cases)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "no archive", "missing", "another key"])
def test_a_damaged_file_is_one_line(tmp_path, damage):
    path = tmp_path / "golden.npz"
    records = write_golden(path, _cases())["restorer"]
    data = path.read_bytes()
    if damage == "another key":
        records[0].inputs["lr"] = "nothing"
    else:
        path.write_bytes(
            {"cut": data[: len(data) // 2], "no archive": b"x", "missing": b""}[damage]
        )
    if damage == "missing":
        path.unlink()
    with pytest.raises(BundleError, match=r"^[^\n]*golden\.npz is damaged: [^\n]*$"):
        read_golden(path, records)


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

    with pytest.raises(EngineError, match=r"^the encoder must give 'mean' at time 7 within 1e-02"):
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
