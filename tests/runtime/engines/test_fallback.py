"""Sizes without an engine run on the CPU."""

from unittest.mock import Mock

import numpy as np
import pytest

from dossr.runtime.bundle import open_bundle
from dossr.runtime.engines.device import Host
from dossr.runtime.engines.fallback import EngineOrCpu
from dossr.runtime.errors import EngineError


class Sized:
    """The toy's restorer for images of 16 x 16, which it makes black."""

    def __init__(self, engine):
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.asked = 0

    def has_engine(self, shapes):
        self.asked += 1
        return shapes == {"lr": (1, 3, 16, 16)}

    def run(self, lr):
        return {"restored": np.zeros((1, 3, 64, 64), np.float32)}


@pytest.fixture
def both(toy_bundle):
    bundle, said = open_bundle(toy_bundle), []
    host = Host()
    plain = host.open(bundle, "restorer")
    sized = Sized(plain)
    return EngineOrCpu(sized, host, bundle, "restorer", said.append, 1), sized, plain, said


def test_a_size_with_an_engine_takes_it(both):
    engine, sized, _, said = both
    lr = np.ones((1, 3, 16, 16), np.float32)
    for _ in range(2):
        assert engine.run(lr=lr)["restored"].max() == 0
    assert sized.asked == 1
    assert said == []


def test_another_size_runs_on_the_cpu_and_is_told_once(both):
    engine, _, plain, said = both
    lr = np.random.default_rng(0).random((1, 3, 8, 16), dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(engine.run(lr=lr)["restored"], plain.run(lr=lr)["restored"])
    assert said == ["no engine of the restorer is built for 1x3x8x16: it runs on the CPU"]


def test_the_cpu_computes_on_the_threads_that_were_asked_for(both, monkeypatch):
    engine, _, plain, _ = both
    opened = Mock(return_value=plain)
    monkeypatch.setattr("dossr.runtime.engines.onnxruntime.session.OrtEngine", opened)
    engine.run(lr=np.ones((1, 3, 8, 16), np.float32))
    assert opened.call_args.args[1] == 1


def test_without_onnxruntime_only_images_of_other_sizes_fail(both, no_onnxruntime):
    engine, _, _, said = both
    with pytest.raises(
        EngineError, match=r"no engine .* for 1x3x8x16, .*pip install 'dossr\[cpu\]'"
    ):
        engine.run(lr=np.ones((1, 3, 8, 16), np.float32))
    assert engine.run(lr=np.ones((1, 3, 16, 16), np.float32))["restored"].max() == 0
    assert said == []
