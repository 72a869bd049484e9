import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossr.solvers import (
    NoiseLevels,
    Schedule,
    ddpm_schedule,
    released_schedule,
    shifted_schedule,
)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 10])
def test_the_released_schedule_is_the_references(golden, steps):
    expected = np.load(golden / "schedule.npz")
    schedule = released_schedule(steps)
    assert expected[f"n{steps}_timesteps"].tolist() == schedule.times.tolist()
    for name in ("alpha", "sigma", "eta"):
        reference = expected[f"n{steps}_{name}s"]
        np.testing.assert_allclose(getattr(schedule, name), reference, rtol=1e-9)
    reference = expected[f"n{steps}_lambdas"]
    np.testing.assert_allclose(1.0 / schedule.inverse_lambda, reference, rtol=1e-9)


def test_every_step_count_rounds_as_the_running_sum_does():
    """The reference accumulates the stride in floats; a product would round step 25 of 50 differently."""
    differs_from_product = set()
    for steps in range(1, 500):
        stride, point, expected = 499 / steps, 0.0, [0]
        for _ in range(steps):
            point += stride
            expected.append(round(point))
        assert expected == released_schedule(steps).times.tolist()
        if expected != [round(i * stride) for i in range(steps + 1)]:
            differs_from_product.add(steps)
    assert {20, 30, 50} <= differs_from_product


@given(st.sampled_from([1000, 667, 500, 333]), st.integers(1, 300))
def test_eq_4_holds_at_every_time_point(t1, steps):
    schedule = shifted_schedule(steps, t1)
    t = schedule.times + 1
    expected = (1.0 - np.cos(np.pi * t / t1)) / 2.0
    np.testing.assert_allclose(schedule.eta, expected, atol=1e-14)
    assert schedule.eta[-1] == 1.0
    assert schedule.inverse_lambda[-1] == 0.0
    assert schedule.times[-1] == t1 - 1


def test_ddpm_is_the_schedule_without_a_shift():
    schedule = ddpm_schedule(999)
    assert not schedule.eta.any()
    np.testing.assert_allclose(schedule.alpha**2, NoiseLevels().alpha_bar(), rtol=1e-15)
    assert (0.0, schedule.sigma[-1]) == schedule.start


def test_the_start_is_at_the_low_resolution_image():
    for schedule in (released_schedule(5), shifted_schedule(5)):
        assert schedule.start == (schedule.alpha[-1], schedule.sigma[-1])


def test_other_noise_levels_are_taken():
    levels = NoiseLevels(linear_start=0.001, linear_end=0.02, timesteps=600)
    schedule = released_schedule(5, levels)
    beta = np.linspace(0.001**0.5, 0.02**0.5, 600) ** 2
    np.testing.assert_allclose(schedule.alpha[0] ** 2, 1.0 - beta[0], rtol=1e-12)


@pytest.mark.parametrize("steps", [0, -1, 500])
def test_an_impossible_step_count_is_refused(steps):
    with pytest.raises(ValueError, match=rf"^steps must be between 1 and 499, got {steps}$"):
        released_schedule(steps)


def test_impossible_levels_are_refused():
    with pytest.raises(ValueError, match="t1 must be between 2 and 1000, got 1001"):
        shifted_schedule(5, 1001)
    with pytest.raises(ValueError, match="0 < start <= end < 1"):
        NoiseLevels(linear_start=0.5, linear_end=0.1)
    with pytest.raises(ValueError, match="between 500 and 10000, got 100"):
        NoiseLevels(timesteps=100)


def test_a_schedule_checks_its_own_laws():
    times, half = np.arange(3), np.full(3, 0.5**0.5)
    with pytest.raises(ValueError, match="lambda"):
        Schedule(times, half, half, np.array([0.5, 0.2, 0.9]))
    with pytest.raises(ValueError, match=r"alpha\*\*2"):
        Schedule(times, half, np.ones(3), np.array([0.0, 0.1, 0.2]))
    with pytest.raises(ValueError, match="noisiest"):
        Schedule(times, half, half, np.array([0.5, 1.0, 1.0]))
    with pytest.raises(ValueError, match="four arrays"):
        Schedule(times, half[:2], half, half)
