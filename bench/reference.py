"""The released procedure on a checkpoint's own weights, in torch eager and float32."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..export.checkpoint import Checkpoint
from ..export.config import CONDITION, CONTROL, RESTORER, TEXT, UNET, VAE
from ..export.networks.autoencoder import autoencoder, vae_state
from ..export.networks.denoiser import load_denoiser
from ..export.networks.restorer import new_restorer
from ..export.networks.text import load_text_tower
from ..runtime.engine import Array
from .systems.dossr import upscale
from .systems.sd import Control, TextEncoder, Unet, VaeDecoder, VaeEncoder
from .systems.system import Noise


class Reference:
    """Every network of a checkpoint, as the released script holds them: all at once, nothing shared."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        config = checkpoint.config
        restorer = new_restorer(config.restorer)
        restorer.load_state_dict(
            {n.removeprefix(RESTORER): t for n, t in checkpoint.part(RESTORER).items()}
        )
        condition, vae = autoencoder(config), autoencoder(config)
        condition.load_state_dict(vae_state(checkpoint.part(CONDITION), condition), strict=False)
        vae.load_state_dict(vae_state(checkpoint.part(VAE), vae))
        denoiser = load_denoiser(config, checkpoint.part(UNET, CONTROL))
        text = TextEncoder(load_text_tower(checkpoint.part(TEXT), config.text))
        self._config, self._device = config, device
        networks: dict[str, nn.Module] = {
            "restorer": restorer,
            "text": text,
            "condition": VaeEncoder(condition),
            "encoder": VaeEncoder(vae),
            "control": Control(denoiser.control),
            "unet": Unet(denoiser.unet),
            "decoder": VaeDecoder(vae),
        }
        self._networks = {
            name: network.eval().requires_grad_(False).to(device)
            for name, network in networks.items()
        }

    @torch.inference_mode()
    def upscale(self, lr: Tensor, steps: int, noise: Iterable[Array]) -> Tensor:
        """LR (1, 3, h, w) in [0, 1] -> (1, 3, 4h, 4w) in [0, 1] on the CPU; order 3, wavelet.

        ``noise``: posterior, start, one per step, as Pipeline.upscale takes it. The sides of ``lr``
        must be multiples of the model's size multiple.
        """
        draws = _Given(noise, self._device)
        return upscale(self._config, steps, self._call, lr.to(self._device), draws).cpu()

    def _call(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
        found = self._networks[network](*inputs.values())
        return (found,) if isinstance(found, Tensor) else found


class _Given(Noise):
    """Noise that was drawn beforehand."""

    def __init__(self, arrays: Iterable[Array], device: torch.device) -> None:
        self._arrays, self._where = list(arrays), device

    def normal(self, *shape: int) -> Tensor:
        array = self._arrays.pop(0)
        if array.shape != shape:
            raise ValueError(f"noise must be of shape {shape}, got {array.shape}")
        return torch.from_numpy(array).to(self._where)
