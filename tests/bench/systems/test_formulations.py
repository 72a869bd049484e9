"""The processes of Table 5: their end points, and a network that returns the exact target."""

import math

import pytest

torch = pytest.importorskip("torch")

from dossr.bench.systems.dossr import dos_sde  # noqa: E402
from dossr.bench.systems.formulations.colddiff import ColdDiff  # noqa: E402
from dossr.bench.systems.formulations.flow import RectifiedFlow  # noqa: E402
from dossr.bench.systems.formulations.shifting import ResShift  # noqa: E402
from dossr.bench.systems.resshift import posterior_steps  # noqa: E402
from dossr.bench.systems.system import Noise  # noqa: E402
from dossr.export.processes.blur import blurred  # noqa: E402
from dossr.export.processes.diffusion import DomainShift  # noqa: E402
from dossr.export.processes.forward import Point  # noqa: E402
from dossr.export.processes.residual import KAPPA, sqrt_eta  # noqa: E402
from dossr.solvers import (  # noqa: E402
    NoiseLevels,
    dos_sde_coefficients,
    released_schedule,
    released_shift,
)

ALPHA_BAR = NoiseLevels().alpha_bar()
ALL = [ColdDiff(5), ResShift(5), RectifiedFlow()]
X0, X_LR, Z = (
    torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for seed in (1, 2, 3)
)


class Silent(Noise):
    """No noise, in float64."""

    def __init__(self):
        pass

    def normal(self, *shape):
        return torch.zeros(shape, dtype=torch.float64)


def at(level, noise=Z):
    return Point(torch.tensor([level]), X0, X_LR, noise)


def perfect(formulation):
    """A network that returns the target of every state exactly; its times are recorded.

    In the domain shift the noise of the state is solved for; elsewhere the target is the same in all
    states.
    """

    def denoise(x, time):
        denoise.times.append(time)
        if not isinstance(formulation, DomainShift):
            return formulation.target(at(formulation.last))
        level = int(time)
        quiet = formulation.state(at(level, 0 * Z))
        return formulation.target(at(level, (x - quiet) / math.sqrt(1 - ALPHA_BAR[level])))

    denoise.times = []
    return denoise


def distance(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def name(value):
    return type(value).__name__


@pytest.mark.parametrize("formulation", ALL, ids=name)
def test_level_0_is_the_data(formulation):
    assert distance(formulation.state(at(0)), X0) == 0


def test_the_domain_shift_begins_near_the_data_and_ends_at_x_lr_with_noise():
    process, alpha_bar, eta = DomainShift(), ALPHA_BAR, released_shift()
    first = process.state(at(0))
    assert distance(first, math.sqrt(alpha_bar[0]) * X0 + math.sqrt(1 - alpha_bar[0]) * Z) < 1e-5
    last = process.state(at(process.last))
    wanted = math.sqrt(alpha_bar[499]) * X_LR + math.sqrt(1 - alpha_bar[499]) * Z
    assert distance(last, wanted) < 1e-5
    assert 0 < 1 - eta[499] < 1e-5


def test_the_other_processes_end_as_published():
    cold, shift, flow = ALL
    assert distance(flow.state(at(flow.last)), X_LR) == 0
    residual = shift.state(at(5))
    assert distance(residual, X0 + 0.99**2 * (X_LR - X0) + 2.0 * 0.99 * Z) < 1e-12
    assert distance(shift.state(at(1, 0 * Z)), X0) < 1e-3  # eta is 0.0004
    blurry = cold.state(at(50))
    assert float(blurry.std()) < 0.15 * float(X0.std())


def test_a_blur_keeps_a_constant_and_adds_up_over_levels():
    assert distance(blurred(torch.ones(1, 4, 16, 16), 0, 50), torch.ones(1, 4, 16, 16)) < 1e-5
    assert distance(blurred(blurred(X0, 0, 20), 20, 50), blurred(X0, 0, 50)) == 0


def test_the_blur_has_the_variance_of_its_kernels():
    """Of an impulse; variances of blurs add up. The narrowest, sampled at pixels, are a little narrower."""
    impulse = torch.zeros(1, 1, 63, 63, dtype=torch.float64)
    impulse[..., 31, 31] = 1.0
    spread = blurred(impulse, 0, 50)
    place = torch.arange(63, dtype=torch.float64) - 31
    variance = float((spread.sum(2) * place**2).sum())
    assert variance == pytest.approx(sum((0.35 + s / 100) ** 2 for s in range(50)), rel=0.08)


@pytest.mark.parametrize("formulation", ALL, ids=name)
def test_one_call_of_a_perfect_network_reaches_the_data_along_the_process(formulation):
    """From the last state of the process itself, in one step."""
    single = type(formulation)(1)
    start = single.state(at(single.last, 0 * Z))
    known = X_LR if isinstance(single, ResShift) else start
    denoise = perfect(single)
    assert distance(single.sample(denoise, known, Silent()), X0) < 1e-12
    assert denoise.times == [999.0]


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("kind", [ColdDiff, ResShift, RectifiedFlow], ids=lambda k: k.__name__)
def test_many_calls_of_a_perfect_network_reach_the_data(kind, steps):
    process = kind(steps)
    start = process.state(at(process.last, 0 * Z)) if kind is ColdDiff else X_LR
    denoise = perfect(process)
    noise = Silent() if kind is not ResShift else Noise(0)
    assert distance(process.sample(denoise, start, noise), X0) < 1e-12
    assert len(denoise.times) == steps
    assert denoise.times == sorted(denoise.times, reverse=True)


def test_colddiff_keeps_what_the_blur_does_not_explain():
    """Algorithm 2 from another image than D(x0, T): the difference stays, to the last digit."""
    process = ColdDiff(5)
    found = process.sample(perfect(process), X_LR, Silent())
    assert distance(found, X0 + X_LR - blurred(X0, 0, 50)) < 1e-12


@pytest.mark.parametrize("steps", [1, 5])
def test_the_domain_shift_with_a_perfect_network_reaches_the_first_state(steps):
    """Without noise; eta at the start is rounded from 1 - 2.5e-6 to 1."""
    process = DomainShift()
    denoise = perfect(process)
    found = dos_sde(steps, 3).sample(denoise, X_LR, Silent())
    assert distance(found, process.state(at(0, 0 * Z))) < 1e-5
    assert denoise.times == [row.time for row in dos_sde_coefficients(released_schedule(steps), 3)]


def test_the_target_of_the_domain_shift_is_the_noise_and_the_shift():
    process, eta = DomainShift(), released_shift()
    for level in (1, 250, 499):
        alpha_bar = ALPHA_BAR[level]
        state, output = process.state(at(level)), process.target(at(level))
        inverted = (state - math.sqrt(1 - alpha_bar) * output) / math.sqrt(alpha_bar)
        assert distance(inverted, X0) < 1e-12
        shift = math.sqrt(alpha_bar / (1 - alpha_bar)) * float(eta[level]) * (X_LR - X0)
        assert distance(output, Z + shift) < 1e-12


def test_resshift_steps_are_the_posterior_of_the_process():
    """The posterior q(x_s | x_t, x0, x_lr) by Bayes from the process itself (Eqs. 1 and 2), in float64."""
    eta = sqrt_eta(5) ** 2
    for step in posterior_steps(5)[:-1]:
        t = step.time
        before, added = KAPPA**2 * eta[t - 1], KAPPA**2 * (eta[t] - eta[t - 1])
        gain = before / (before + added)
        # x_t = x_s + (eta_t - eta_s) (x_lr - x0) + noise: the posterior mean in terms of x_t, x0
        x_t, x0, x_lr = 0.7, -0.3, 1.1
        prior = x0 + eta[t - 1] * (x_lr - x0)
        mean = prior + gain * (x_t - prior - (eta[t] - eta[t - 1]) * (x_lr - x0))
        assert step.x * x_t + step.x0 * x0 == pytest.approx(mean, rel=1e-6)
        assert step.noise**2 == pytest.approx(before * added / (before + added), rel=1e-6)
    assert (posterior_steps(5)[-1].x, posterior_steps(5)[-1].x0) == (0.0, 1.0)


def test_resshift_feeds_the_network_states_of_unit_variance():
    """The divisor is the standard deviation of kappa sqrt(eta) noise on data of unit variance."""
    steps = posterior_steps(5)
    assert [step.scale for step in steps] == pytest.approx(
        [math.sqrt(1 + 4 * eta) for eta in reversed(sqrt_eta(5) ** 2)]
    )
