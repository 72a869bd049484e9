"""Schedules, closed-form solver coefficients and the solver step of DoSSR. NumPy only."""

from .coefficients import (
    StepCoefficients,
    dos_sde_coefficients,
    interpolating_coefficients,
    taylor_coefficients,
)
from .schedule import (
    NoiseLevels,
    Schedule,
    ddpm_schedule,
    released_schedule,
    released_shift,
    shifted_schedule,
)
from .step import predict_x0, step

__all__ = [
    "NoiseLevels",
    "Schedule",
    "StepCoefficients",
    "ddpm_schedule",
    "dos_sde_coefficients",
    "interpolating_coefficients",
    "predict_x0",
    "released_schedule",
    "released_shift",
    "shifted_schedule",
    "step",
    "taylor_coefficients",
]
