"""The networks to export: one row per stage, each built only when its turn comes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.bundle import CONDITION as CONDITION_STAGE
from .checkpoint.config import CONDITION, CONTROL, RESTORER, UNET, VAE
from .checkpoint.reader import Checkpoint
from .networks.autoencoder import Condition, Decoder, Encoder, autoencoder, vae_state
from .networks.denoiser import denoiser
from .networks.restorer import Restorer, new_restorer

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Stage:
    """One network, built in float32, in eval mode, on the CPU."""

    name: str
    build: Callable[[Checkpoint, Tensor], nn.Module]
    """Builds the network from the checkpoint and the embedded prompt (1, positions, width)."""

    inputs: tuple[str, ...]
    """Names in the order of forward()."""

    outputs: tuple[str, ...]


def stages(shares_encoder: bool) -> tuple[Stage, ...]:
    """Return the stages of a bundle in the order of the runtime."""
    condition = Stage(CONDITION_STAGE, _condition, ("restored",), ("hint",))
    return (
        Stage("restorer", _restorer, ("lr",), ("restored",)),
        Stage("encoder", _encoder, ("restored",), ("mean", "std")),
        *(() if shares_encoder else (condition,)),
        Stage("denoiser", _denoiser, ("x", "hint", "time"), ("eps",)),
        Stage("decoder", _decoder, ("x",), ("image",)),
    )


def _restorer(checkpoint: Checkpoint, _prompt: Tensor) -> nn.Module:
    network = new_restorer(checkpoint.config.restorer)
    state = {n.removeprefix(RESTORER): t for n, t in checkpoint.part(RESTORER).items()}
    network.load_state_dict(state)
    return Restorer(network).eval()


def _encoder(checkpoint: Checkpoint, _prompt: Tensor) -> nn.Module:
    vae = autoencoder(checkpoint.config)
    vae.load_state_dict(vae_state(checkpoint.part(VAE), vae))
    return Encoder(vae, checkpoint.config.latent_scale).eval()


def _condition(checkpoint: Checkpoint, _prompt: Tensor) -> nn.Module:
    vae = autoencoder(checkpoint.config)
    state = vae_state(checkpoint.part(CONDITION), vae)
    vae.load_state_dict(state, strict=False)  # the encoder half; the layout was checked before
    return Condition(vae, checkpoint.config.latent_scale).eval()


def _denoiser(checkpoint: Checkpoint, prompt: Tensor) -> nn.Module:
    return denoiser(checkpoint.config, checkpoint.part(UNET, CONTROL), prompt)


def _decoder(checkpoint: Checkpoint, _prompt: Tensor) -> nn.Module:
    vae = autoencoder(checkpoint.config)
    vae.load_state_dict(vae_state(checkpoint.part(VAE), vae))
    return Decoder(vae, checkpoint.config.latent_scale).eval()
