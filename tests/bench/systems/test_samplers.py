"""What the shared samplers must give, whatever is sampled."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffusers import DDPMScheduler  # noqa: E402

from dossr.bench.systems.samplers import SpacedDDPM, spaced_times  # noqa: E402
from dossr.solvers import NoiseLevels  # noqa: E402

ALPHA_BAR = NoiseLevels().alpha_bar()
SHAPE = (1, 4, 8, 8)


def draws(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(
    ("count", "first", "middle", "last"),
    [
        (50, [0, 20, 41, 61, 82], [489, 510], [938, 958, 979, 999]),
        (200, [0, 5, 10, 15, 20], [497, 502], [984, 989, 994, 999]),
    ],
)
def test_times_are_those_of_the_official_steps(count, first, middle, last):
    times = spaced_times(count)
    assert times.dtype == np.int64
    assert len(times) == count
    assert times[:5].tolist() == first
    assert times[count // 2 - 1 : count // 2 + 1].tolist() == middle
    assert times[-4:].tolist() == last


@pytest.mark.parametrize("count", [2, 3, 7, 49, 50, 200, 999, 1000])
def test_times_are_even_and_mirror_each_other(count):
    times = spaced_times(count)
    assert (times[0], times[-1]) == (0, 999)
    assert np.ptp(np.diff(times)) <= 1
    assert np.abs(times + times[::-1] - 999).max() <= 1


@pytest.mark.parametrize("count", [1, 1001])
def test_more_times_than_there_are_or_a_single_one_are_refused(count):
    with pytest.raises(ValueError, match="count must be between 2 and 1000"):
        spaced_times(count)


@pytest.mark.parametrize("count", [2, 50, 200, 1000])
def test_an_exact_eps_leads_to_the_clean_image(count):
    times = spaced_times(count)
    sampler = SpacedDDPM(times, ALPHA_BAR)
    x0, x, *noises = draws(count + 2)
    for index in reversed(range(count)):
        level = ALPHA_BAR[times[index]]
        eps = (x - level**0.5 * x0) / (1.0 - level) ** 0.5
        x = sampler.step(index, x, eps, noises[index])
    assert torch.allclose(x, x0, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("index", [1, 2, 25, 49])
def test_a_step_draws_from_the_product_of_prior_and_likelihood(index):
    """q(x_s | x_t, x0) is q(x_t | x_s) q(x_s | x0), both normal in x_s: precisions add."""
    times = spaced_times(50)
    here, there = ALPHA_BAR[times[index]], ALPHA_BAR[times[index - 1]]
    x0, x, noise = draws(3)
    scale = (here / there) ** 0.5  # x_t = scale * x_s + noise
    prior, likelihood = 1.0 / (1.0 - there), scale**2 / (1.0 - scale**2)
    variance = 1.0 / (prior + likelihood)
    mean = variance * (prior * there**0.5 * x0 + likelihood * x / scale)
    eps = (x - here**0.5 * x0) / (1.0 - here) ** 0.5
    found = SpacedDDPM(times, ALPHA_BAR).step(index, x, eps, noise)
    assert torch.allclose(found, mean + variance**0.5 * noise, rtol=0.0, atol=1e-12)


def test_no_noise_enters_the_clean_image():
    sampler = SpacedDDPM(spaced_times(50), ALPHA_BAR)
    x, eps, noise = draws(3)
    assert torch.equal(sampler.step(0, x, eps, noise), sampler.step(0, x, eps, -noise))


@pytest.mark.parametrize(
    ("count", "times"),
    [(1000, np.arange(1000)), (50, np.arange(1, 1000, 20))],
    ids=["all times", "50 leading times"],
)
def test_agrees_with_the_scheduler_of_diffusers(count, times):
    scheduler = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.0120,
        beta_schedule="scaled_linear",
        variance_type="fixed_small",
        clip_sample=False,
        timestep_spacing="leading",
        steps_offset=0 if count == 1000 else 1,
    )
    scheduler.set_timesteps(count)
    assert scheduler.timesteps.flip(0).tolist() == times.tolist()
    sampler = SpacedDDPM(times, ALPHA_BAR)
    x, eps, _ = (tensor.float() for tensor in draws(3))
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    for index in (0, 1, 2, count // 2, count - 1):
        generator = torch.Generator().manual_seed(1)
        wanted = scheduler.step(eps, int(times[index]), x, generator=generator).prev_sample
        # diffusers keeps its tables in float32, where 1 - alpha_bar loses digits near time 0
        assert torch.allclose(sampler.step(index, x, eps, noise), wanted, rtol=0.0, atol=5e-5)
