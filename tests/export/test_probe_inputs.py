import numpy as np
from torch import nn

from dossr.export.probe_inputs import grid, reference
from dossr.export.stages import Stage
from dossr.solvers import NoiseLevels


def test_the_grid_is_every_time_of_the_step_counts():
    assert grid([5], NoiseLevels()) == [499, 399, 299, 200, 100]
    assert grid([1, 3], NoiseLevels()) == [499, 333, 166]


def test_the_reference_is_what_torch_gives():
    stage = Stage("restorer", lambda _checkpoint, _prompt: nn.Identity(), ("lr",), ("restored",))
    inputs = {"lr": np.ones((1, 3, 2, 2), np.float32)}
    case = reference(stage, nn.Identity(), inputs, time=3)
    assert case.time == 3
    np.testing.assert_array_equal(case.outputs["restored"], inputs["lr"])
