"""Schedules, closed-form solver weights and the solver step of DoSSR. NumPy only."""

from .schedule import (
    NoiseLevels,
    Schedule,
    ddpm_schedule,
    released_schedule,
    released_shift,
    shifted_schedule,
)
from .step import predict_x0, step
from .weights import StepWeights, dos_sde_weights, interpolating_weights, taylor_weights

__all__ = [
    "NoiseLevels",
    "Schedule",
    "StepWeights",
    "ddpm_schedule",
    "dos_sde_weights",
    "interpolating_weights",
    "predict_x0",
    "released_schedule",
    "released_shift",
    "shifted_schedule",
    "step",
    "taylor_weights",
]
