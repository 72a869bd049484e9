"""The errors of stages in lower precision, where memory is short. The network is a fake."""

import math

import numpy as np
import pytest

from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines.openvino.golden_errors import golden_errors
from dossr.runtime.engines.openvino.graph import Graph
from dossr.runtime.errors import OutOfMemoryError


@pytest.mark.parametrize(("fits", "error"), [(1000, 0.0), (0, math.inf)])
def test_without_memory_for_the_largest_golden_vectors_the_smallest_judge(cache, fits, error):
    bundle = open_bundle(DEMO)
    cases = bundle.golden("decoder")

    def run(x):
        if x.size > fits:
            raise OutOfMemoryError("no memory")
        return next(case.outputs for case in cases if np.array_equal(case.inputs["x"], x))

    graph = Graph(bundle.path("decoder", "openvino"), None, {"decoder.cpu.onnx": "0" * 64})
    how = ("bf16", "CPU", "a CPU")
    found = golden_errors(bundle, {"decoder": graph}, how, lambda stage: run, print)
    assert found == {"decoder": error}
    assert not list(cache.glob("*.bf16"))  # it is measured again
