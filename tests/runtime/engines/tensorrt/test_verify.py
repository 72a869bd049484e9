"""An engine against ONNX Runtime: every time of the step grid, every output."""

import numpy as np
import pytest

from dossr.runtime.bundle import open_bundle
from dossr.runtime.engines.onnxruntime.session import OrtEngine
from dossr.runtime.engines.tensorrt.verify import verify_engine
from dossr.runtime.errors import EngineError

LATENT = (1, 4, 8, 8)
SHAPES = {
    "restorer": {"lr": (1, 3, 16, 16)},
    "encoder": {"restored": (1, 3, 64, 64)},
    "denoiser": {"x": LATENT, "hint": LATENT, "time": (1,)},
    "decoder": {"x": LATENT},
}


def _agree(bundle, stage, change):
    judge = OrtEngine(bundle.path(stage))
    asked = []

    def engine(**inputs):
        asked.append(inputs)
        return change(judge.run(**inputs), inputs)

    return verify_engine(bundle.manifest, stage, SHAPES[stage], engine, judge.run), asked


@pytest.mark.parametrize("stage", SHAPES)
def test_an_engine_agrees_with_itself(toy_bundle, stage):
    bundle = open_bundle(toy_bundle)
    errors, asked = _agree(bundle, stage, lambda outputs, inputs: outputs)
    names = {spec.name for spec in bundle.manifest.stages[stage].outputs}
    assert errors == dict.fromkeys(names, 0.0)
    for inputs in asked:
        for name, array in inputs.items():
            assert (array.shape, array.dtype) == (SHAPES[stage][name], np.float32)
            if name in ("lr", "restored"):
                assert 0.0 <= array.min() < 0.2 < 0.8 < array.max() <= 1.0


def test_the_denoiser_is_asked_at_the_times_of_five_steps(toy_bundle):
    _, asked = _agree(open_bundle(toy_bundle), "denoiser", lambda outputs, inputs: outputs)
    assert [float(inputs["time"][0]) for inputs in asked] == [100, 200, 299, 399, 499]


def test_one_wrong_time_is_found_and_named(toy_bundle):
    def wrong_at_299(outputs, inputs):
        factor = 1.01 if inputs["time"][0] == 299 else 1.0001
        return {name: factor * array for name, array in outputs.items()}

    with pytest.raises(EngineError, match=r"denoiser differs .* by 1\.0e-02 in 'eps' at time 299"):
        _agree(open_bundle(toy_bundle), "denoiser", wrong_at_299)


def test_what_is_not_finite_never_agrees(toy_bundle):
    def broken(outputs, inputs):
        return {name: np.full_like(array, np.nan) for name, array in outputs.items()}

    with pytest.raises(EngineError, match="by nan in 'image'"):
        _agree(open_bundle(toy_bundle), "decoder", broken)
