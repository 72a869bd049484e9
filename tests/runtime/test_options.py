"""Options of sampling and tiling."""

import dataclasses
import inspect

import pytest

from dossr.runtime import Pipeline
from dossr.runtime.options import MAX_STEPS, SamplingOptions, Tiling
from dossr.solvers import ddpm_schedule


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be between 1 and 499, got 0"),
        ({"steps": 500}, "steps must be between 1 and 499, got 500"),
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
    steps = MAX_STEPS + 1
    assert SamplingOptions(steps, schedule=ddpm_schedule(steps)).steps == steps


def test_upscale_has_the_same_defaults():
    parameters = inspect.signature(Pipeline.upscale).parameters
    for record in (SamplingOptions, Tiling):
        for field in dataclasses.fields(record):
            if field.name != "tiling":
                assert parameters[field.name].default == field.default, field.name


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingOptions().steps = 3
