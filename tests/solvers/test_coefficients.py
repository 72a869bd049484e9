import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossr.solvers import (
    Schedule,
    ddpm_schedule,
    dos_sde_coefficients,
    interpolating_coefficients,
    predict_x0,
    released_schedule,
    shifted_schedule,
    step,
    taylor_coefficients,
)

SCHEDULES = {
    "released": released_schedule,
    "shifted T": lambda steps: shifted_schedule(steps, 1000),
    "shifted 2T/3": lambda steps: shifted_schedule(steps, 667),
    "shifted T/2": lambda steps: shifted_schedule(steps, 500),
    "shifted T/3": lambda steps: shifted_schedule(steps, 333),
    "ddpm": ddpm_schedule,
}
GOLDEN = {
    "tiny_o1_s1_none": 1,
    "tiny_o2_s3_adain": 2,
    "tiny_o3_s5_wavelet": 3,
    "tiny_o3_s7_none": 3,
    "tiny_shared_o3_s5_wavelet": 3,
    "full_o3_s5_wavelet": 3,
}
schedules = st.builds(
    lambda name, steps: SCHEDULES[name](steps), st.sampled_from(list(SCHEDULES)), st.integers(1, 60)
)


@pytest.mark.parametrize("name", GOLDEN)
def test_trajectories_are_the_references(golden, name):
    """With the recorded network outputs and noise; the reference ran in float32."""
    data = np.load(golden / f"{name}.npz")
    noise = data["noise"].astype(np.float64)
    mean, log_variance = np.split(data["moments"].astype(np.float64), 2, axis=1)
    x_lr = 0.18215 * (mean + np.exp(0.5 * log_variance) * noise[0])
    schedule = released_schedule(len(data["x_t"]))
    image, start_noise = schedule.start
    x, history = image * x_lr + start_noise * noise[1], []
    for i, row in enumerate(dos_sde_coefficients(schedule, GOLDEN[name])):
        np.testing.assert_allclose(x, data["x_t"][i], atol=2e-6, rtol=1e-5)
        history.insert(0, predict_x0(row, x, data["eps"][i].astype(np.float64)))
        np.testing.assert_allclose(history[0], data["pred_x0"][i], atol=2e-6, rtol=1e-5)
        x = step(row, x, x_lr, history, noise[i + 2])
    np.testing.assert_allclose(x, data["final_latent"], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("steps", "index", "expected"),
    [  # x, x_lr, x0, noise of the first order, computed independently
        (1, 0, (1.53e-9, 2.466e-6, 0.999572, 0.0291548)),
        (3, 1, (0.113766, 0.161432, 0.652493, 0.434892)),
        (5, 1, (0.167487, 0.403730, 0.256477, 0.625873)),
        (5, 4, (0.00686921, -0.000623833, 0.993703, 0.029069)),
        (7, 6, (0.0109157, -0.000519419, 0.989575, 0.0290086)),
    ],
)
def test_first_order_coefficients_are_the_published_ones(steps, index, expected):
    row = dos_sde_coefficients(released_schedule(steps), 1)[index]
    np.testing.assert_allclose((row.x, row.x_lr, *row.x0, row.noise), expected, rtol=2e-3)


@given(schedules, st.integers(1, 3), st.booleans())
def test_a_perfect_prediction_stays_on_the_forward_process(schedule, order, released):
    """Any steps, any order: the mean is Eq. 2's and the variance is sigma squared."""
    make = dos_sde_coefficients if released else interpolating_coefficients
    x0, x_lr = 0.7, -1.3
    mean = schedule.alpha * (schedule.eta * x_lr + (1.0 - schedule.eta) * x0)
    for i, row in enumerate(make(schedule, order)):
        s = schedule.steps - i
        history = [x0] * len(row.x0)
        assert step(row, mean[s], x_lr, history, 0.0) == pytest.approx(mean[s - 1], abs=1e-9)
        variance = (row.x * schedule.sigma[s]) ** 2 + row.noise**2
        assert variance == pytest.approx(schedule.sigma[s - 1] ** 2, rel=1e-9)


@given(
    schedules,
    st.sampled_from([dos_sde_coefficients, interpolating_coefficients]),
    st.integers(1, 3),
)
def test_coefficients_are_finite_and_the_history_is_known(schedule, make, order):
    """Also if eta is 1 and lambda infinite; no step needs more predictions than exist."""
    for i, row in enumerate(make(schedule, order)):
        assert np.isfinite([row.x, row.x_lr, row.noise, *row.x0]).all()
        assert len(row.x0) == min(order, i + 1)
        assert row.time == schedule.times[schedule.steps - i]


def test_ddpm_is_the_ancestral_sampler():
    """With eta = 0 a first-order step is DDPM's posterior mean and variance (Ho et al. 2020, Eq. 7)."""
    schedule = ddpm_schedule(50)
    bar = schedule.alpha**2
    for i, row in enumerate(dos_sde_coefficients(schedule, 1)):
        s = schedule.steps - i
        ratio = bar[s] / bar[s - 1]
        beta = 1.0 - ratio
        assert row.x == pytest.approx(ratio**0.5 * (1.0 - bar[s - 1]) / (1.0 - bar[s]), rel=1e-9)
        assert row.x0[0] == pytest.approx(bar[s - 1] ** 0.5 * beta / (1.0 - bar[s]), rel=1e-9)
        assert row.noise**2 == pytest.approx(beta * (1.0 - bar[s - 1]) / (1.0 - bar[s]), rel=1e-9)
        assert row.x_lr == 0.0


def test_with_eta_one_at_the_start_the_first_state_has_no_weight():
    row = dos_sde_coefficients(shifted_schedule(5), 3)[0]
    schedule = shifted_schedule(5)
    assert row.x == 0.0
    assert row.x_lr == pytest.approx(schedule.alpha[-2] * schedule.eta[-2])
    assert row.noise == pytest.approx(schedule.sigma[-2])


def test_differences_that_touch_the_start_vanish():
    """At five steps and order 3 the effective orders are 1, 1, 2, 3, 3."""
    rows = dos_sde_coefficients(shifted_schedule(5), 3)
    effective = [int(np.count_nonzero(row.x0)) for row in rows]
    assert effective == [1, 1, 2, 3, 3]


def _exact_step(schedule, s, x, x_lr, polynomial):
    """Eq. 11 without noise, the integral of a polynomial in lambda term by term."""
    lam = 1.0 / schedule.inverse_lambda
    a = schedule.alpha * (1.0 - schedule.eta)
    rho = schedule.eta / (1.0 - schedule.eta)
    t, r = s - 1, lam[s - 1] / lam[s]
    integral = 0.0
    for k, c in enumerate(polynomial):  # 2 lam_t^2 c lam^(k - 3)
        if k == 2:
            integral += 2 * lam[t] ** 2 * c * math.log(r)
        else:
            integral += 2 * lam[t] ** 2 * c * (lam[t] ** (k - 2) - lam[s] ** (k - 2)) / (k - 2)
    linear = a[t] / a[s] * r**2 * x + a[t] * (rho[t] - rho[s] * r**2) * x_lr
    return linear - a[t] * integral


def _geometric(steps):
    """A schedule with lambda from 8 down to 0.05, evenly in its logarithm, and a moving shift."""
    lam = np.geomspace(0.05, 8.0, steps + 1)
    eta = 0.5 * (lam - lam[0]) / (lam[-1] - lam[0])
    alpha = 1.0 / np.sqrt(1.0 + (lam * (1.0 - eta)) ** 2)
    return Schedule(np.arange(steps + 1), alpha, np.sqrt(1.0 - alpha**2), eta)


@given(st.integers(1, 6), st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.integers(2, 40))
def test_taylor_coefficients_are_exact_for_polynomials_of_lower_degree(order, coefficients, steps):
    """Order k, x_theta a polynomial in lambda of degree below k, exact derivatives (Eq. 40)."""
    schedule = _geometric(steps)
    polynomial = np.polynomial.Polynomial(coefficients[:order])
    for i in range(steps):
        s = steps - i
        lam = 1.0 / schedule.inverse_lambda[s]
        derivatives = [
            lam**n * (polynomial.deriv(n) if n else polynomial)(lam) for n in range(order)
        ]
        row = dos_sde_coefficients(schedule, 1)[i]
        x = row.x * 0.3 + row.x_lr * 0.9 + taylor_coefficients(schedule, i, order) @ derivatives
        exact = _exact_step(schedule, s, 0.3, 0.9, polynomial.coef)
        scale = np.abs(polynomial.coef) @ lam ** np.arange(polynomial.coef.size)
        assert x == pytest.approx(exact, abs=1e-9 * (1.0 + scale))


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_interpolating_coefficients_are_exact_for_polynomials_of_lower_degree(order):
    schedule = _geometric(12)
    polynomial = np.polynomial.Polynomial([0.4, -0.3, 0.2, -0.05, 0.01][:order])
    lam = 1.0 / schedule.inverse_lambda
    for i, row in enumerate(interpolating_coefficients(schedule, order)):
        s = schedule.steps - i
        if len(row.x0) < order:
            continue  # the history is still too short
        history = [polynomial(lam[s + k]) for k in range(order)]
        exact = _exact_step(schedule, s, 0.3, 0.9, polynomial.coef)
        assert step(row, 0.3, 0.9, history, 0.0) == pytest.approx(exact, rel=1e-9)


def _exact_state(schedule, s):
    """The state at point s of a noise-free run from the start, x_theta = sin(lambda) (Eq. 11)."""
    lam = 1.0 / schedule.inverse_lambda
    nodes, weights = np.polynomial.legendre.leggauss(400)
    half = (lam[s] - lam[-1]) / 2.0
    u = (lam[s] + lam[-1]) / 2.0 + half * nodes
    integral = half * weights @ (2.0 * lam[s] ** 2 / u**3 * np.sin(u))
    linear = _exact_step(_ends(schedule, s), 1, 0.3, 0.9, [])
    return linear - schedule.alpha[s] * (1.0 - schedule.eta[s]) * integral


def _ends(schedule, s):
    points = [s, -1]
    return Schedule(
        schedule.times[points], schedule.alpha[points], schedule.sigma[points], schedule.eta[points]
    )


def _error(make, order, steps):
    """The error at the end of a noise-free run whose first ``order - 1`` steps are exact."""
    schedule = _geometric(steps)
    predictions = np.sin(1.0 / schedule.inverse_lambda)
    known = order - 1
    x = _exact_state(schedule, steps - known) if known else 0.3
    for i, row in enumerate(make(schedule, order)):
        s = steps - i
        if i >= known:
            x = step(row, x, 0.9, predictions[s : s + order], 0.0)
    return abs(x - _exact_state(schedule, 0))


@pytest.mark.parametrize(
    ("make", "order", "slope"),
    [
        (dos_sde_coefficients, 1, 1),
        (dos_sde_coefficients, 2, 2),
        (dos_sde_coefficients, 3, 2),  # differences are not corrected for the mid-point
        (interpolating_coefficients, 1, 1),
        (interpolating_coefficients, 2, 2),
        (interpolating_coefficients, 3, 3),
    ],
)
def test_the_measured_convergence_order(make, order, slope):
    steps = np.array([50, 100, 200])
    errors = [_error(make, order, n) for n in steps]
    measured = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert measured == pytest.approx(slope, abs=0.2)


def test_float32_arrays_stay_float32():
    row = dos_sde_coefficients(released_schedule(5), 3)[2]
    x = np.ones((1, 4, 2, 2), np.float32)
    assert predict_x0(row, x, x).dtype == np.float32
    assert step(row, x, x, [x, x, x], x).dtype == np.float32


@pytest.mark.parametrize("order", [0, 4])
def test_an_unknown_order_is_refused(order):
    with pytest.raises(ValueError, match=rf"^order must be 1, 2 or 3, got {order}$"):
        dos_sde_coefficients(released_schedule(5), order)


def test_wrong_arguments_are_refused():
    schedule = released_schedule(5)
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        interpolating_coefficients(schedule, 0)
    with pytest.raises(ValueError, match="order must be at least 1, got 0"):
        taylor_coefficients(schedule, 0, 0)
    with pytest.raises(ValueError, match="step must be between 0 and 4, got 5"):
        taylor_coefficients(schedule, 5, 1)
    with pytest.raises(ValueError, match="needs 3 data predictions, got 1"):
        step(dos_sde_coefficients(schedule, 3)[4], 0.0, 0.0, [0.0], 0.0)
