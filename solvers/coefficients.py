"""Solver coefficients of the domain-shift SDE in closed form: one row per step, in float64.

With a = alpha (1 - eta), lambda = sigma / a and x_theta the predicted clean latent, one step from
time s to the less noisy time t is the closed form of Eq. 11. lambda is infinite where eta is 1. This
file therefore uses mu = 1 / lambda and the ratio r = lambda_t / lambda_s in [0, 1], and never divides
by 1 - eta.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schedule import Schedule


@dataclass(frozen=True)
class StepCoefficients:
    """One step: x_next = x * x_s + x_lr * x_lr + sum(x0[k] * x0_s[k]) + noise * z."""

    time: int
    """Network time at which this step predicts."""

    alpha: float
    """Level of the image at this time; with sigma it converts the network output to x0."""

    sigma: float
    """Level of the noise at this time."""

    x: float
    x_lr: float
    x0: tuple[float, ...]
    """Coefficients of the data predictions, newest first; as many as the order of this step."""

    noise: float


def dos_sde_coefficients(schedule: Schedule, order: int) -> tuple[StepCoefficients, ...]:
    """Return the coefficients of the released solver of order 1, 2 or 3, noisiest step first.

    Order 1 is Eq. 42; order 2 adds Eq. 44, order 3 adds Eq. 47. Derivatives are plain divided
    differences of the last predictions. The first steps use the order that the history allows.
    Without a mid-point correction, the measured convergence orders are 1, 2 and 2;
    ``interpolating_coefficients`` corrects them.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, got {order}")
    return _table(schedule, order, _released_x0)


def interpolating_coefficients(schedule: Schedule, order: int) -> tuple[StepCoefficients, ...]:
    """Return the coefficients of a corrected solver of any order, noisiest step first.

    This is not the released solver. The derivatives in Eq. 40 are those of the polynomial in lambda
    through the last ``order`` predictions. A step is exact if x_theta is a polynomial of degree below
    ``order``. A prediction at infinite lambda is used by the first step only, because no polynomial
    passes through it.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    return _table(schedule, order, _interpolated_x0)


def taylor_coefficients(schedule: Schedule, step: int, order: int) -> NDArray[np.float64]:
    """Return the coefficients of x_theta and its first ``order - 1`` derivatives in one step (Eq. 40).

    Entry n of the float64 array (order,) multiplies lambda_s**n * d^n x_theta / d lambda^n at the
    start of the step. The factor lambda_s**n keeps it finite where lambda_s is infinite. ``step``
    counts from 0, the noisiest.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    s = schedule.steps - step
    if not 1 <= s <= schedule.steps:
        raise ValueError(f"step must be between 0 and {schedule.steps - 1}, got {step}")
    r = _ratio(schedule, s)
    a = schedule.alpha[s - 1] * (1.0 - schedule.eta[s - 1])
    return np.array([-a * _integral(n, r) for n in range(order)])


def _table(
    schedule: Schedule,
    order: int,
    x0_coefficients: Callable[[Schedule, int, int], NDArray[np.float64]],
) -> tuple[StepCoefficients, ...]:
    return tuple(
        _step_coefficients(
            schedule, s, x0_coefficients(schedule, s, min(order, schedule.steps - s + 1))
        )
        for s in range(schedule.steps, 0, -1)
    )


def _step_coefficients(schedule: Schedule, s: int, x0: NDArray[np.float64]) -> StepCoefficients:
    """Return the row of the step from time point s to s - 1 (Eq. 11)."""
    alpha, sigma, eta = schedule.alpha, schedule.sigma, schedule.eta
    t = s - 1
    r = _ratio(schedule, s)
    x = r * sigma[t] / sigma[s]
    return StepCoefficients(
        time=int(schedule.times[s]),
        alpha=float(alpha[s]),
        sigma=float(sigma[s]),
        x=float(x),
        x_lr=float(alpha[t] * eta[t] - x * alpha[s] * eta[s]),
        x0=tuple(float(weight) for weight in x0),
        noise=float(sigma[t] * np.sqrt(1.0 - r**2)),
    )


def _released_x0(schedule: Schedule, s: int, order: int) -> NDArray[np.float64]:
    """Return the coefficients of the last predictions with the released divided differences."""
    mu = schedule.inverse_lambda
    x0 = np.zeros(order)
    taylor = taylor_coefficients(schedule, schedule.steps - s, order)
    x0[0] = taylor[0]  # Eq. 42
    if order >= 2:  # Eq. 44: lambda_s * D1
        slope = np.array([1.0, -1.0]) * mu[s + 1] / (mu[s + 1] - mu[s])
        x0[:2] += taylor[1] * slope
    if order == 3:  # Eq. 47: lambda_s**2 * D2
        near = mu[s + 1] / (mu[s + 1] - mu[s])
        far = mu[s + 1] * mu[s + 2] / (mu[s] * (mu[s + 2] - mu[s + 1]))
        curve = np.array([near, -near - far, far]) * 2.0 * mu[s + 2] / (mu[s + 2] - mu[s])
        x0 += taylor[2] * curve
    return x0


def _interpolated_x0(schedule: Schedule, s: int, order: int) -> NDArray[np.float64]:
    """Return coefficients that are exact for polynomials in lambda of degree < order."""
    x0 = np.zeros(order)
    mu = schedule.inverse_lambda[s : s + order]
    known = max(1, int(np.count_nonzero(mu)))  # eta is 1, and mu 0, at the noisiest point only
    # Offset of each node from lambda_s, in units of lambda_s; the first is 0.
    offset = (mu[0] - mu[:known]) / mu[:known] if known > 1 else np.zeros(1)
    taylor = taylor_coefficients(schedule, schedule.steps - s, known)
    for k in range(known):
        x0[k] = sum(
            weight * math.factorial(n) * coefficient
            for n, (weight, coefficient) in enumerate(
                zip(taylor, _lagrange(offset, k), strict=True)
            )
        )
    return x0


def _lagrange(nodes: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return the Lagrange polynomial of node k as coefficients, lowest power first."""
    others = np.delete(nodes, k)
    return np.asarray(np.polynomial.polynomial.polyfromroots(others) / np.prod(nodes[k] - others))


def _ratio(schedule: Schedule, s: int) -> float:
    """Return lambda_t / lambda_s of the step from time point s to t = s - 1, in [0, 1)."""
    alpha, sigma, eta = schedule.alpha, schedule.sigma, schedule.eta
    t = s - 1
    a_s, a_t = alpha[s] * (1.0 - eta[s]), alpha[t] * (1.0 - eta[t])
    return float(sigma[t] * a_s / (sigma[s] * a_t))


def _integral(n: int, r: float) -> float:
    """Return the integral of 2 r**2 u**-3 (u - 1)**n / n! over u from 1 to r, with 0 <= r <= 1.

    It is the integral of Eq. 40 with u = lambda / lambda_s, divided by lambda_s**n.
    """
    h = 1.0 - r
    if h < 0.5:  # avoid cancellation: expand (1 - v)**-3, v = 1 - u, and integrate each power
        m = np.arange(64)
        terms = (m + 1) * (m + 2) / 2 * h ** (n + m + 1.0) / (n + m + 1)
        return float((-1) ** (n + 1) * 2 * r**2 * terms.sum() / math.factorial(n))
    total = 0.0
    for k in range(n + 1):  # r**2 times the integral of u**(k - 3)
        part = r**2 * math.log(r or 1.0) if k == 2 else (r**k - r**2) / (k - 2)
        total += math.comb(n, k) * (-1) ** (n - k) * part
    return 2 * total / math.factorial(n)
