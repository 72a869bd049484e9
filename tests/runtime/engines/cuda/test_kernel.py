"""The fused solver kernel."""

import numpy as np
import pytest

from dossr.runtime.engines.cuda.kernel import step_kernel, step_numbers
from dossr.solvers import dos_sde_coefficients, predict_x0, released_schedule, step


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_fused_step_is_the_solvers_step(order):
    """The kernel's statements, run by Python on NumPy arrays, against the solver, bit for bit."""
    rng = np.random.default_rng(order)
    x, eps, x_lr, z, *older = rng.standard_normal((6, 1, 4, 8, 8), dtype=np.float32)
    for row in dos_sde_coefficients(released_schedule(5), order):
        kernel = step_kernel(len(row.x0))
        names = dict(zip(kernel.arrays, (x, eps, x_lr, z, *older), strict=False))
        names |= dict(zip(kernel.coefficients, step_numbers(row), strict=True))
        exec(kernel.statements, names)
        x0 = predict_x0(row, x, eps)
        following = step(row, x, x_lr, (x0, *older), z)
        for name, expected in zip(kernel.results, (x0, following), strict=True):
            np.testing.assert_array_equal(names[name], expected)
            assert names[name].dtype == np.float32
