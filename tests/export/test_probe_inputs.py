from dossr.export.probe_inputs import grid
from dossr.solvers import NoiseLevels


def test_the_grid_is_every_time_of_the_step_counts():
    assert grid([5], NoiseLevels()) == [499, 399, 299, 200, 100]
    assert grid([1, 3], NoiseLevels()) == [499, 333, 166]
