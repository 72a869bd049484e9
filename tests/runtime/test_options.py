"""Options of sampling and tiling."""

import dataclasses
import inspect

import pytest

from dossr.runtime import Pipeline
from dossr.runtime.bundle import open_bundle
from dossr.runtime.options import STARTS, SamplingOptions, Tiling
from dossr.solvers import NoiseLevels, ddpm_schedule, released_schedule, shifted_schedule


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be between 1 and 499 with start 500, got 0"),
        ({"steps": 500}, "steps must be between 1 and 499 with start 500, got 500"),
        ({"steps": 333, "start": 333}, "steps must be between 1 and 332 with start 333, got 333"),
        ({"start": 400}, "start must be 333, 500, 667, 1000, got 400"),
        ({"detail": 1.5}, "detail must be between 0 and 1, got 1.5"),
        ({"detail": float("nan")}, "detail must be between 0 and 1, got nan"),
        (
            {"start": 1000, "schedule": ddpm_schedule(5)},
            "a schedule has a start of its own; give schedule or start, not both",
        ),
        ({"order": 4}, "order must be 1, 2 or 3, got 4"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"color_fix": "sepia"}, "color_fix must be wavelet, adain, none, got 'sepia'"),
        ({"schedule": ddpm_schedule(4)}, "the schedule must have 5 steps, got 4"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SamplingOptions(**wrong)


def test_another_schedule_may_have_more_steps():
    steps = SamplingOptions().start
    assert SamplingOptions(steps, schedule=ddpm_schedule(steps)).steps == steps


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("steps", [1, 5, 332])
def test_sampling_starts_where_the_image_is_all_restored_and_noise(start, steps):
    """Each start has the paper's shift of its own: 1 at the start (Eq. 4), so that x needs x_lr only."""
    schedule = SamplingOptions(steps, start=start).sampled_schedule(NoiseLevels())
    assert (schedule.steps, schedule.times[-1]) == (steps, start - 1)
    assert schedule.eta[-1] == pytest.approx(1.0, abs=3e-6)
    assert schedule.start[0] == schedule.alpha[-1]


def test_the_default_start_is_the_released_one_and_the_others_the_papers():
    levels = NoiseLevels()
    released, paper = released_schedule(5, levels), shifted_schedule(5, 1000, levels)
    assert (SamplingOptions().sampled_schedule(levels).eta == released.eta).all()
    assert (SamplingOptions(start=1000).sampled_schedule(levels).eta == paper.eta).all()


def test_a_start_beyond_the_bundles_times_is_refused(toy_bundle):
    manifest = open_bundle(toy_bundle).manifest
    SamplingOptions(start=1000).check(manifest)
    short = dataclasses.replace(manifest, schedule=NoiseLevels(timesteps=700))
    with pytest.raises(ValueError, match=r"^start must be at most this bundle's 700 network times"):
        SamplingOptions(start=1000).check(short)


def test_upscale_has_the_same_defaults():
    parameters = inspect.signature(Pipeline.upscale).parameters
    for record in (SamplingOptions, Tiling):
        for field in dataclasses.fields(record):
            if field.name != "tiling":
                assert parameters[field.name].default == field.default, field.name


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingOptions().steps = 3
