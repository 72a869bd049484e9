"""One solver step as the source of one elementwise GPU kernel.

The statements are valid C and valid Python, so that they can be tested against ``dossr.solvers``
without a GPU.
"""

from dataclasses import dataclass

from ....solvers import StepCoefficients


@dataclass(frozen=True)
class StepKernel:
    """``predict_x0`` and ``step`` in one pass, with the solver's order of additions."""

    arrays: tuple[str, ...]
    """x, eps, x_lr, noise, then the earlier predictions, newest first."""

    coefficients: tuple[str, ...]
    """Scalars, in the order of ``step_numbers``."""

    results: tuple[str, str]
    """The prediction of this step and the next state."""

    statements: str


def step_kernel(order: int) -> StepKernel:
    """Return the kernel of a step that sums ``order`` predictions including its own."""
    older = tuple(f"older_{k}" for k in range(1, order))
    x0_coefficients = tuple(f"w_x0_{k}" for k in range(order))
    terms = ["x * w_x", "x_lr * w_x_lr", "noise * w_noise"]
    terms += [f"{a} * {w}" for a, w in zip(("x0", *older), x0_coefficients, strict=True)]
    return StepKernel(
        arrays=("x", "eps", "x_lr", "noise", *older),
        coefficients=(
            "inverse_alpha",
            "sigma_over_alpha",
            "w_x",
            "w_x_lr",
            "w_noise",
            *x0_coefficients,
        ),
        results=("x0", "following"),
        statements=(
            f"x0 = x * inverse_alpha - eps * sigma_over_alpha;\nfollowing = {' + '.join(terms)};"
        ),
    )


def step_numbers(row: StepCoefficients) -> tuple[float, ...]:
    """Return the scalars that a step passes to its kernel."""
    return (1.0 / row.alpha, row.sigma / row.alpha, row.x, row.x_lr, row.noise, *row.x0)
