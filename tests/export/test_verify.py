import numpy as np
import pytest

from dossr.export import VerificationError
from dossr.export.verify import compare, table
from dossr.runtime.bundle import GoldenCase


def _case(scale=1.0):
    lr = np.random.default_rng(0).random((1, 3, 4, 4), dtype=np.float32)
    return GoldenCase({"lr": lr}, {"restored": lr.repeat(4, 2).repeat(4, 3) * np.float32(scale)})


def test_a_file_that_agrees_gives_a_row_for_each_output(toy_bundle):
    rows = compare(
        "restorer", "cpu", toy_bundle / "restorer.cpu.onnx", [_case()], 1e-4, lambda _count: None
    )
    assert [(row.stage, row.target, row.output, row.shape) for row in rows] == [
        ("restorer", "cpu", "restored", (1, 3, 16, 16))
    ]
    assert rows[0].error == 0.0
    assert "restorer   restored" in table(rows)


def test_a_file_that_differs_fails_with_its_error(toy_bundle):
    with pytest.raises(
        VerificationError,
        match=r"^restorer\.cpu\.onnx differs from torch by 9\.9e-03 in 'restored' \(allowed 1\.0e-03\)$",
    ):
        compare(
            "restorer",
            "cpu",
            toy_bundle / "restorer.cpu.onnx",
            [_case(1.01)],
            1e-3,
            lambda _count: None,
        )


def test_a_file_of_another_shape_or_that_does_not_run_fails(toy_bundle):
    case = _case()
    small = GoldenCase(case.inputs, {"restored": case.inputs["lr"]})
    with pytest.raises(
        VerificationError, match=r"must give finite numbers of shape \(1, 3, 4, 4\)"
    ):
        compare(
            "restorer", "cpu", toy_bundle / "restorer.cpu.onnx", [small], 1e-3, lambda _count: None
        )
    with pytest.raises(VerificationError, match=r"none\.onnx cannot be run by ONNX Runtime"):
        compare("restorer", "cpu", toy_bundle / "none.onnx", [case], 1e-3, lambda _count: None)
