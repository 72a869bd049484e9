"""Exported networks: refused where they do not fit, removed after their last use."""

import shutil
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from dossr.bench.measure.calls import VARIANTS  # noqa: E402
from dossr.bench.measure.process import CallError  # noqa: E402
from dossr.bench.rows.exports import drop_exports, export  # noqa: E402
from dossr.bench.rows.session import Session, Settings  # noqa: E402
from dossr.bench.systems import load_system  # noqa: E402
from dossr.runtime.terminal import Silent  # noqa: E402

FP32, FP16 = VARIANTS["onnx"], VARIANTS["onnx-fp16"]


@pytest.fixture
def session(tmp_path):
    return Session(Settings("table1", "compose", 64, "cpu", 0, 1, True), tmp_path, Silent())


@pytest.fixture(scope="module")
def bsrgan():
    return load_system("bsrgan", 64, reduced=True)


def test_a_network_that_does_not_fit_the_disk_is_not_exported(session, bsrgan, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(CallError, match=r"^lack of disk: 0\.0 GiB needed in .*; set TMPDIR"):
        export(session, bsrgan, bsrgan.networks[0], FP32)


def test_an_export_is_made_once_and_stays_while_a_later_row_needs_it(session, bsrgan):
    first = export(session, bsrgan, bsrgan.networks[0], FP32)
    assert export(session, bsrgan, bsrgan.networks[0], FP32) is first
    drop_exports(session, [(bsrgan, FP32)])
    assert first.path.is_file()
    drop_exports(session, [(bsrgan, VARIANTS["torch"])])
    assert list(session.scratch.iterdir()) == []


def test_an_export_of_another_precision_is_another_file(session, bsrgan):
    single, half = (
        export(session, bsrgan, bsrgan.networks[0], variant) for variant in (FP32, FP16)
    )
    weights = [path.stat().st_size for path in map(_weights, (single.path, half.path))]
    assert weights[1] < 0.6 * weights[0]
    drop_exports(session, [(bsrgan, FP16)])
    assert sorted(session.scratch.iterdir()) == sorted((half.path, _weights(half.path)))
    assert export(session, bsrgan, bsrgan.networks[0], FP16) is half


def _weights(path):
    return path.with_name(f"{path.name}.data")
