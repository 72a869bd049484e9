"""A demo model trained for one objective: read from a training folder, run in torch with any sampler."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...export.checkpoint.config import CONTROL, TEXT, UNET
from ...export.checkpoint.reader import Checkpoint, read_checkpoint
from ...export.demo_training.recipe import named
from ...export.networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from ...export.stages import stages
from ...runtime.images.padding import pad_to_multiple
from ...runtime.tensors import SCALE
from ..metrics import Pixels
from ..systems.post import wavelet
from ..systems.procedure import Sample
from ..systems.system import Noise


@dataclass(frozen=True)
class Encoded:
    """What all samplers of an image share."""

    height: int
    width: int
    """Of the result."""

    restored: Tensor
    """(1, 3, h, w) in [0, 1], padded to sides that the networks support."""

    mean: Tensor
    std: Tensor
    """Of the posterior of x_lr, scaled; the mean is the hint."""


def read_variant(folder: Path, objective: str) -> "Variant":
    """Read the checkpoint of an objective from a folder of the training recipe.

    Raise ValueError in one line where there is none, or where it was trained for another objective.
    """
    path = folder / f"{named('demo', objective)}.ckpt"
    if not (path.is_file() and path.with_suffix(".yaml").is_file()):
        raise ValueError(
            f"{folder} must hold a model of the objective {objective}, {path.name} and its .yaml, and it "
            f"does not; train it: python -m dossr.export.demo_training {folder} --objective {objective}"
        )
    return Variant(read_checkpoint(path, path.with_suffix(".yaml"), objective=objective))


class Variant:
    """The networks of one checkpoint, on the CPU in float32."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Build the networks with the default prompt."""
        self.config, self.sha256 = checkpoint.config, checkpoint.sha256
        self.common = _digest(checkpoint)
        tokens = tokenize(DEFAULT_PROMPT, self.config.text.positions)
        prompt = embed_prompt(checkpoint.part(TEXT), self.config.text, tokens)
        self._networks = {
            stage.name: stage.build(checkpoint, prompt)
            for stage in stages(checkpoint.shares_encoder)
        }

    @torch.inference_mode()
    def encode(self, lr: Pixels) -> Encoded:
        """Restore and encode an image, uint8 (h, w, 3)."""
        image = lr.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255.0)
        padded = pad_to_multiple(image, self.config.size_multiple)
        restored = self._networks["restorer"](torch.from_numpy(padded))
        mean, std = self._networks["encoder"](restored)
        return Encoded(lr.shape[0] * SCALE, lr.shape[1] * SCALE, restored, mean, std)

    @torch.inference_mode()
    def sample(self, image: Encoded, sample: Sample, seed: int) -> Pixels:
        """Sample, decode and fix colours, as the runtime does; uint8 (4h, 4w, 3)."""
        noise = Noise(seed)
        x_lr = image.mean + image.std * noise.normal(*image.mean.shape)

        def denoise(x: Tensor, time: float) -> Tensor:
            eps: Tensor = self._networks["denoiser"](x, image.mean, torch.full((1,), float(time)))
            return eps

        decoded = self._networks["decoder"](sample(denoise, x_lr, noise).float())
        return pixels(wavelet(decoded, image.restored), image)


def _digest(checkpoint: Checkpoint) -> str:
    """Return a hash of all weights but the denoiser's."""
    digest = hashlib.sha256()
    for name, tensor in checkpoint.tensors.items():
        if not name.startswith((UNET, CONTROL)):
            digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def pixels(image: Tensor, encoded: Encoded) -> Pixels:
    """Return an image (1, 3, h, w) in [0, 1] without its padding, uint8."""
    inner = image[0, :, : encoded.height, : encoded.width]
    levels = inner.clamp(0.0, 1.0).permute(1, 2, 0).numpy() * 255.0
    return np.rint(levels).astype(np.uint8)
