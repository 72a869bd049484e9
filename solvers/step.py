"""One solver step: weighted sums in the arrays' own dtype and library."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from .coefficients import StepCoefficients

Latent: TypeAlias = Any  # a NumPy or CuPy array, (batch, channels, height, width)


def predict_x0(coefficients: StepCoefficients, x: Latent, eps: Latent) -> Latent:
    """Return the predicted clean latent by the DDPM inversion (x - sigma * eps) / alpha.

    The state x also contains the domain shift. The released network was nevertheless trained on this
    inversion, not on Eq. 29.
    """
    return x * (1.0 / coefficients.alpha) - eps * (coefficients.sigma / coefficients.alpha)


def step(
    coefficients: StepCoefficients, x: Latent, x_lr: Latent, x0: Sequence[Latent], noise: Latent
) -> Latent:
    """Return the state after one step (Eq. 11).

    ``x0`` holds the data predictions, newest first, at least as many as the step's order; older ones
    are ignored. ``noise`` is standard normal. All arrays have the same shape.
    """
    if len(x0) < len(coefficients.x0):
        raise ValueError(f"this step needs {len(coefficients.x0)} data predictions, got {len(x0)}")
    result = x * coefficients.x + x_lr * coefficients.x_lr + noise * coefficients.noise
    for coefficient, prediction in zip(coefficients.x0, x0, strict=False):
        result = result + prediction * coefficient
    return result
