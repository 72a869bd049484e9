"""The released procedure in torch, with the weights of a checkpoint."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ...export.checkpoint.config import CONDITION, CONTROL, RESTORER, TEXT, UNET, VAE
from ...export.checkpoint.reader import Checkpoint, read_checkpoint
from ...export.networks.autoencoder import autoencoder, vae_state
from ...export.networks.denoiser import load_denoiser
from ...export.networks.restorer import new_restorer
from ...export.networks.text import load_text_tower
from ...runtime.sampling import draw_noise
from ...runtime.tensors import SCALE, Array, Image
from ...runtime.terminal import Advance
from ..systems.dossr import STAGE_OF, upscale
from ..systems.dossr import networks as stated
from ..systems.networks.sd import Control, TextEncoder, Unet, VaeDecoder, VaeEncoder
from ..systems.system import Call, Noise
from .backends import TorchBackend, torch_backend
from .calls import VARIANTS, PipelineTime, Tick, TimeReference
from .contenders import SEED, Stages, Timer, lr_image, summed
from .events import TimedCalls, between, record_event


def time_reference(call: TimeReference, advance: Advance) -> PipelineTime:
    """Time the released procedure in torch, with the checkpoint's weights."""
    timer = Timer(call, advance)
    checkpoint = read_checkpoint(Path(call.checkpoint), Path(call.config) if call.config else None)
    backend = torch_backend(VARIANTS[call.variant], call.device)
    network = Reference(checkpoint, backend)
    backend.synchronize()
    precisions = dict.fromkeys(STAGE_OF.values(), backend.precision)
    return timer.time(_LoadedReference(network, checkpoint, call, advance), precisions)


class _LoadedReference:
    def __init__(
        self,
        network: "Reference",
        checkpoint: Checkpoint,
        call: TimeReference,
        advance: Advance,
    ) -> None:
        model = checkpoint.config
        side = call.size * SCALE // model.vae.factor
        self._noise = draw_noise(SEED, call.steps, (1, model.vae.latent_channels, side, side))
        self._lr = lr_image(call.size)
        self._network, self._steps, self._advance = network, call.steps, advance

    def image(self) -> Image:
        return self._upscale(self._network.call)

    def first_image(self, mark: Tick) -> Image:
        def call(network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
            mark()
            found = self._network.call(network, **inputs)
            mark()
            return found

        return self._upscale(call)

    def stages(self) -> Stages:
        device = self._network.device
        calls = TimedCalls(self._network.call, device)
        start = record_event(device)
        self._upscale(calls)
        end = record_event(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found = summed((STAGE_OF[name], seconds) for name, seconds in calls.seconds())
        return {**found, "rest": between(start, end) - sum(found.values())}

    def _upscale(self, call: Call) -> Image:
        """Advance after the image: torch compiles in the first call of each network."""
        image = self._network.upscale(self._lr, self._steps, self._noise, call)
        self._advance(1)
        return image


class Reference:
    """All networks of a checkpoint, loaded at once and without sharing, as in the released script."""

    def __init__(self, checkpoint: Checkpoint, backend: TorchBackend) -> None:
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
        self._config, self.device = config, backend.device
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
            name: backend.load(network.eval().requires_grad_(False))
            for name, network in networks.items()
        }
        specs = stated(config, steps=1, size=config.size_multiple)
        self._inputs = {spec.name: [wish.name for wish in spec.inputs] for spec in specs}

    @torch.inference_mode()
    def upscale(self, lr: Image, steps: int, noise: Array, call: Call) -> Image:
        """Upscale an image four times with order 3 and the wavelet colour fix.

        On a GPU the image and the noise are uploaded once and the result is downloaded once.
        ``noise``: posterior, start, one per step, as draw_noise returns it. The sides of ``lr`` must
        be multiples of the model's size multiple. ``call`` runs a network, as ``self.call`` does.
        """
        draws = _Given(torch.from_numpy(noise).to(self.device))
        image = torch.from_numpy(lr).to(self.device).permute(2, 0, 1)[None].contiguous() / 255.0
        hr = upscale(self._config, steps, call, image, draws)
        pixels = (hr[0] * 255.0).round().to(torch.uint8).permute(1, 2, 0).contiguous()
        return pixels.cpu().numpy()

    def call(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Run one network."""
        return self._networks[network](*(inputs[name] for name in self._inputs[network]))


class _Given(Noise):
    """Noise that is drawn in advance."""

    def __init__(self, draws: Tensor) -> None:
        self._draws = iter(draws)

    def normal(self, *shape: int) -> Tensor:
        draw: Tensor = next(self._draws)
        if draw.shape != shape:
            raise ValueError(f"noise must be of shape {shape}, got {tuple(draw.shape)}")
        return draw
