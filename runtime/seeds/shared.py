"""The stages of an image: what all its draws share is computed once, then each draw from its noise."""

from collections.abc import Mapping, Sequence

from ...solvers import Schedule, StepCoefficients
from ..bundle import CONDITION
from ..engines.device import Device
from ..engines.engine import Engine, check_output
from ..images.color import COLOR_FIXES
from ..options import SamplingOptions
from ..sampling import Observe, sample
from ..tensors import Array


class SharedStages:
    """A padded LR image (1, 3, h, w) on a device: restored and encoded once, for every seed.

    ``shapes``: of the image four times as large, and of its latent. ``observe`` receives every
    intermediate, see ``Pipeline.run``. All arrays belong to the device. Raise EngineError if a network
    fails or returns another shape.
    """

    def __init__(
        self,
        stages: Mapping[str, Engine],
        device: Device,
        image: Array,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        observe: Observe,
    ) -> None:
        self._stages, self._device, self._observe = stages, device, observe
        self._restored = stages["restorer"].run(lr=image)["restored"]
        observe("restored", self._restored)
        check_output("restorer", self._restored, shapes[0])
        posterior = stages["encoder"].run(restored=self._restored)
        self._mean, self._std = posterior["mean"], posterior["std"]
        self._hint = self._mean
        if CONDITION in stages:
            self._hint = stages[CONDITION].run(restored=self._restored)["hint"]
        for latent in (self._mean, self._std, self._hint):
            check_output("encoder", latent, shapes[1])
        observe("hint", self._hint)

    def sample(
        self, noise: Array, schedule: Schedule, coefficients: Sequence[StepCoefficients]
    ) -> Array:
        """Return the final latents (draws, channels, h, w) for noise (steps + 2, draws, channels, h, w)."""
        x_lr = self._mean + self._std * noise[0]
        self._observe("x_lr", x_lr)
        x_lr_weight, noise_weight = schedule.start
        x = x_lr * x_lr_weight + noise[1] * noise_weight
        hint, observe = self._hint, self._observe
        denoiser = self._stages["denoiser"]
        x = sample(denoiser, self._device, coefficients, x, x_lr, hint, noise[2:], observe)
        observe("latent", x)
        return x

    def decode(self, x: Array, options: SamplingOptions) -> Array:
        """Return the image (1, 3, 4h, 4w) of one latent, colours fixed, nominally in [0, 1]."""
        decoded = self._stages["decoder"].run(x=x)["image"]
        check_output("decoder", decoded, self._restored.shape)
        self._observe("decoded", decoded)
        return COLOR_FIXES[options.color_fix](decoded, self._restored, options.detail)
