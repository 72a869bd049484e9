"""Inputs of the networks while they upscale procedural images: what 8 bits are calibrated on."""

from collections.abc import Callable, Mapping

import numpy as np

from ...runtime.bundle import Bundle
from ...runtime.engines.device import Device
from ...runtime.engines.engine import Engine
from ...runtime.options import SamplingOptions
from ...runtime.pipeline import Pipeline
from ...runtime.tensors import SCALE, Array, TensorSpec
from ..demo_training.degrade import Degradation
from ..demo_training.images import numbered_image

IMAGES = 4
"""Images that are upscaled; the last one judges and takes no part in the calibration."""

SIDE = 64
"""Of these images, in LR pixels."""

_SEED = 20261126

Inputs = Mapping[str, Array]
"""Arrays of one run of a stage, by name."""


class _Recorder:
    """An engine that keeps its inputs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.runs: list[Inputs] = []

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """The engine's."""
        return self._engine.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """The engine's."""
        return self._engine.outputs

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the engine."""
        self.runs.append({name: np.array(array) for name, array in inputs.items()})
        return self._engine.run(**inputs)


def record_inputs(
    bundle: Bundle, device: Device, advance: Callable[[float], None]
) -> list[dict[str, list[Inputs]]]:
    """Upscale the images with the default options; return the inputs by stage for each image.

    ``advance`` is called with 1 for each image.
    """
    found = []
    for number in range(IMAGES):
        recorders = {
            stage: _Recorder(device.open(bundle, stage)) for stage in bundle.manifest.stages
        }
        pipeline = Pipeline(recorders, bundle.manifest, device)
        pipeline.run(_image(number), SamplingOptions(seed=number))
        found.append({stage: recorder.runs for stage, recorder in recorders.items()})
        advance(1)
    return found


def _image(number: int) -> Array:
    sharp = numbered_image(_SEED, SIDE * SCALE, number)
    return Degradation()(sharp, np.random.default_rng([_SEED, number]))
