"""One solver step on arrays: weighted sums, in the arrays' own dtype and library."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from .coefficients import StepCoefficients

Latent: TypeAlias = Any  # a NumPy or CuPy array, (batch, channels, height, width)


def predict_x0(coefficients: StepCoefficients, x: Latent, eps: Latent) -> Latent:
    """The predicted clean latent: the plain DDPM inversion (x - sigma * eps) / alpha.

    The state x also holds the domain shift, but the released network was trained on exactly this
    inversion, not on Eq. 29.
    """
    return x * (1.0 / coefficients.alpha) - eps * (coefficients.sigma / coefficients.alpha)


def step(
    coefficients: StepCoefficients, x: Latent, x_lr: Latent, x0: Sequence[Latent], noise: Latent
) -> Latent:
    """The state after one step (Eq. 11).

    ``x0`` holds the data predictions so far, newest first, at least as many as the step's order;
    older ones are ignored. ``noise`` is standard normal. All arrays have one shape.
    """
    if len(x0) < len(coefficients.x0):
        raise ValueError(f"this step needs {len(coefficients.x0)} data predictions, got {len(x0)}")
    result = x * coefficients.x + x_lr * coefficients.x_lr + noise * coefficients.noise
    for coefficient, prediction in zip(coefficients.x0, x0, strict=False):
        result = result + prediction * coefficient
    return result
