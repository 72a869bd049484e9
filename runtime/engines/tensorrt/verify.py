"""Verification of a built engine against ONNX Runtime on the CPU."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ....solvers import released_schedule
from ...bundle import Manifest, StageRecord
from ...errors import EngineError
from ...tensors import Array
from .profiles import Shape

BOUNDS = {"fp32": 1e-3, "fp16": 1e-2}
"""Largest relative error of an output, in the Euclidean norm, by precision."""

STEPS = 5
"""The denoiser is verified at each network time of this step count."""

Run = Callable[..., Mapping[str, Array]]


def verify_engine(
    manifest: Manifest, stage: str, shapes: Mapping[str, Shape], engine: Run, reference: Run
) -> dict[str, float]:
    """Return the largest relative error of every output, ||engine - reference|| / ||reference||.

    Both functions take and return NumPy arrays by name. Raise EngineError at the first error over
    the bound.
    """
    bound, worst = BOUNDS[manifest.precision], dict[str, float]()
    for inputs in _inputs(manifest, manifest.stages[stage], shapes):
        expected, found = reference(**inputs), engine(**inputs)
        for name, exact in expected.items():
            error = relative_error(found[name], exact)
            if not error <= bound:  # also if it is NaN
                at = f" at time {inputs['time'][0]:.0f}" if "time" in inputs else ""
                half = manifest.precision == "fp16"
                raise EngineError(
                    f"the engine of {stage} differs from ONNX Runtime by {error:.1e} in '{name}'"
                    f"{at}, and {bound:.0e} is allowed; "
                    + ("export the checkpoint without --fp16" if half else "please report it")
                )
            worst[name] = max(error, worst.get(name, 0.0))
    return worst


def _inputs(
    manifest: Manifest, record: StageRecord, shapes: Mapping[str, Shape]
) -> Iterator[dict[str, Array]]:
    """Yield reproducible inputs: images in [0, 1], latents of standard deviation 1."""
    random = np.random.Generator(np.random.Philox(0))
    takes_time = any(len(shapes[spec.name]) == 1 for spec in record.inputs)
    times = released_schedule(STEPS, manifest.schedule).times[1:] if takes_time else [0]
    for time in times:
        inputs = {}
        for spec in record.inputs:
            shape = shapes[spec.name]
            if len(shape) == 1:
                inputs[spec.name] = np.full(shape, time, np.float32)
                continue
            noise = random.standard_normal(shape, dtype=np.float32)
            is_image = spec.name in ("lr", "restored")
            inputs[spec.name] = np.clip(_ramp(shape) + 0.1 * noise, 0, 1) if is_image else noise
        yield inputs


def _ramp(shape: Shape) -> Array:
    return np.linspace(0.1, 0.9, shape[-1], dtype=np.float32) * np.ones(shape, np.float32)


def relative_error(found: Array, exact: Array) -> float:
    """Return ||found - exact|| / ||exact|| in float64; NaN if shapes differ or values are not finite."""
    if found.shape != exact.shape or not np.isfinite(found).all():
        return float("nan")
    exact = exact.astype(np.float64)
    return float(np.linalg.norm(found - exact) / max(float(np.linalg.norm(exact)), 1e-30))
