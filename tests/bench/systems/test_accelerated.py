"""The samplers of Table 6: against float64 statements of the published formulas, and with a perfect network."""

import math
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dossr.bench.systems.accelerated import (  # noqa: E402
    churned,
    ddim,
    dpm_solver,
    edm,
    karras_sigmas,
    network_time,
)
from dossr.bench.systems.dossr import dos_sde  # noqa: E402
from dossr.bench.systems.system import Noise  # noqa: E402
from dossr.solvers import (  # noqa: E402
    NoiseLevels,
    dos_sde_coefficients,
    predict_x0,
    released_schedule,
    step,
)

LEVELS = NoiseLevels()
ALPHA_BAR = LEVELS.alpha_bar()
SHAPE = (1, 4, 8, 8)
TIMES = [999, 799, 599, 399, 199]
X0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Recorded(Noise):
    """Noise of seed 0 in float64 that keeps its draws."""

    def __init__(self):
        super().__init__(0)
        self.draws = []

    def normal(self, *shape):
        self.draws.append(super().normal(*shape).double())
        return self.draws[-1]


def network(x, time):
    """A smooth network that is nonlinear in the state and depends on the time."""
    return torch.tanh(1.3 * x) * math.cos(time / 300.0) + 0.2 * x.roll(1, -1)


def perfect(x, time):
    """The noise of X0's states exactly, also between training times."""
    known = np.log((1.0 - ALPHA_BAR) / ALPHA_BAR)
    odds = math.exp(float(np.interp(time, np.arange(known.size), known)))
    alpha_bar = 1.0 / (1.0 + odds)
    return (x - math.sqrt(alpha_bar) * X0) / math.sqrt(1.0 - alpha_bar)


def distance(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("sampler", [ddim, edm, dpm_solver], ids=lambda f: f.__name__)
def test_a_perfect_network_reaches_the_data(sampler, steps):
    found = sampler(LEVELS, steps)
    assert (found.calls, found.reads_x_lr) == (steps, False)
    assert distance(found.sample(perfect, X0, Noise(0)), X0) < 1e-5


def test_ddim_is_the_published_formula():
    """Song et al. 2021, Eq. 12 with sigma of Eq. 16 at eta = 1."""
    noise = Recorded()
    found = ddim(LEVELS).sample(network, X0, noise)
    x, *draws = noise.draws
    assert len(draws) == 5
    for time, before, z in zip(TIMES, [*TIMES[1:], None], draws, strict=True):
        now = ALPHA_BAR[time]
        then = 1.0 if before is None else ALPHA_BAR[before]
        sigma = math.sqrt((1 - then) / (1 - now)) * math.sqrt(1 - now / then)
        eps = network(x, time)
        x0 = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
        x = math.sqrt(then) * x0 + math.sqrt(max(1 - then - sigma**2, 0.0)) * eps + sigma * z
    assert distance(found, x) < 1e-6


def test_karras_sigmas_are_the_published_formula():
    """Karras et al. 2022, Eq. 5 with rho = 7, between the first and the last training time."""
    odds = np.sqrt((1 - ALPHA_BAR) / ALPHA_BAR)
    ends = odds[-1] ** (1 / 7), odds[0] ** (1 / 7)
    wanted = [(ends[0] + i / 4 * (ends[1] - ends[0])) ** 7 for i in range(5)]
    assert karras_sigmas(LEVELS, 5) == pytest.approx([*wanted, 0.0], rel=1e-6)


def test_edm_is_the_published_algorithm():
    """Karras et al. 2022, Algorithm 2 without lines 9 to 11; the denoiser D is written out."""
    noise = Recorded()
    found = edm(LEVELS).sample(network, X0, noise)
    known = np.sqrt((1 - ALPHA_BAR) / ALPHA_BAR)
    ends = known[-1] ** (1 / 7), known[0] ** (1 / 7)
    t = [(ends[0] + i / 4 * (ends[1] - ends[0])) ** 7 for i in range(5)] + [0.0]
    draws = iter(noise.draws)
    x = t[0] * next(draws)
    for now, after in pairwise(t):
        gamma = min(40.0 / 5, math.sqrt(2) - 1) if 0.05 <= now <= 10.0 else 0.0
        hat = now + gamma * now
        if gamma:
            x = x + math.sqrt(hat**2 - now**2) * 1.003 * next(draws)
        alpha = 1 / math.sqrt(1 + hat**2)
        time = float(np.interp(math.log(hat), np.log(known), np.arange(1000)))
        denoised = x - hat * network(alpha * x, time)
        x = x + (after - hat) * (x - denoised) / hat
    assert next(draws, None) is None
    assert distance(found, x) < 1e-6


def test_edm_stays_in_the_range_of_the_network():
    largest = math.sqrt((1 - ALPHA_BAR[-1]) / ALPHA_BAR[-1])
    sigmas = karras_sigmas(LEVELS, 5)
    hats = [churned(sigma, 5) for sigma in sigmas]
    assert max(hats) <= largest * (1 + 1e-6)
    assert sum(hat > sigma for hat, sigma in zip(hats, sigmas, strict=True)) == 3
    assert network_time(LEVELS, largest) == pytest.approx(999.0)


def test_dpm_solver_is_the_published_formula():
    """Lu et al. 2022: expansion of Proposition 4.1 with divided differences in lambda, float64.

    The integrals of (lambda - lambda_s)**n / n! * exp(lambda - lambda_t) are in closed form. The
    orders are 1, 2, 3, 2, 1. As in the authors' code, order 2 takes half of h times the first
    integral, and the curvature of order 3 is the divided difference, half of the second derivative.
    """
    noise = Recorded()
    found = dpm_solver(LEVELS).sample(lambda x, time: network(x.double(), time), X0, noise)
    (x,) = noise.draws
    alpha, sigma = np.sqrt(ALPHA_BAR[TIMES]), np.sqrt(1 - ALPHA_BAR[TIMES])
    lam = np.log(alpha / sigma)
    seen = []
    for i, order in enumerate((1, 2, 3, 2, 1)):
        seen.insert(0, (x - sigma[i] * network(x, TIMES[i])) / alpha[i])
        if i == 4:  # sigma is 0 after the last step
            x = seen[0]
            break
        h = lam[i + 1] - lam[i]
        first = alpha[i + 1] * (1 - math.exp(-h))
        slope = curve = 0.0
        if order >= 2:
            slope = (seen[0] - seen[1]) / (lam[i] - lam[i - 1])
        if order == 3:
            before = (seen[1] - seen[2]) / (lam[i - 1] - lam[i - 2])
            second = (slope - before) / (lam[i] - lam[i - 2])
            slope = slope + second * (lam[i] - lam[i - 1])
            curve = second
        linear = alpha[i + 1] * (h - 1 + math.exp(-h))
        square = alpha[i + 1] * (h**2 / 2 - h + 1 - math.exp(-h))
        if order == 2:
            linear = 0.5 * first * h
        x = sigma[i + 1] / sigma[i] * x + first * seen[0] + linear * slope + square * curve
    assert distance(found, x) < 1e-6


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_domain_shift_rows_are_the_solver(order):
    noise = Recorded()
    found = dos_sde(5, order).sample(network, X0, noise)
    schedule = released_schedule(5)
    draws = iter(noise.draws)
    shift, spread = schedule.start
    x, history = shift * X0 + spread * next(draws), []
    for row in dos_sde_coefficients(schedule, order):
        history.insert(0, predict_x0(row, x, network(x, row.time)))
        x = step(row, x, X0, history, next(draws))
    assert distance(found, x) < 1e-12
