"""Training data and loss of each network: L1, as in the released recipe; the denoiser's is its process's."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from ...runtime.images.arrays import quantize
from ...runtime.pipeline import Pipeline
from ...runtime.tensors import Array
from ..networks.autoencoder import Decoder, Encoder
from ..networks.denoiser import Denoiser
from ..processes.forward import Point, Process
from .images import is_plain
from .pool import ImageBatch, as_tensor, degraded, pieces, sharp_batch
from .recipe import COARSE, COARSE_WEIGHT, IMAGE_SIZE, KL_WEIGHT, VIEWS, Training
from .train import Loss


def restorer_loss(
    network: nn.Module, pool: ImageBatch, training: Training, device: torch.device
) -> Loss:
    """Return the L1 distance between the restored and the sharp image, plus that of coarse means.

    L1 alone takes the median of what may be there; of fine patterns that is not their mean.
    """

    def loss(random: np.random.Generator) -> Tensor:
        numbers = random.integers(len(pool), size=training.batch)
        hr = pieces(pool, numbers, random, training.crop)
        lr = as_tensor(degraded(hr, random)).to(device)
        with _half(device):
            restored = network(lr)
        found, wanted = restored.float(), as_tensor(hr).to(device)
        error: Tensor = F.l1_loss(found, wanted)
        seen = found.clamp(0.0, 1.0)
        coarse: Tensor = F.l1_loss(F.avg_pool2d(seen, COARSE), F.avg_pool2d(wanted, COARSE))
        return error + COARSE_WEIGHT * coarse

    return loss


def autoencoder_loss(
    vae: AutoencoderKL, pool: ImageBatch, training: Training, device: torch.device
) -> Loss:
    """Return the L1 reconstruction error plus a weak KL divergence, as a function."""

    def loss(random: np.random.Generator) -> Tensor:
        image = as_tensor(sharp_batch(pool, random, training.batch, training.crop)).to(device)
        with _half(device):
            moments = vae.quant_conv(vae.encoder(2.0 * image - 1.0)).float()
            mean, log_variance = moments.chunk(2, dim=1)
            log_variance = torch.clamp(log_variance, -30.0, 20.0)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            decoded = vae.decoder(vae.post_quant_conv(latent))
        divergence: Tensor = (
            0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum((1, 2, 3)).mean()
        )
        error: Tensor = F.l1_loss((decoded.float() + 1.0) / 2.0, image)
        return error + KL_WEIGHT * divergence / (training.crop / 64) ** 2

    return loss


@dataclass(frozen=True)
class Latents:
    """Scaled latents of the pool, float16, each (count, channels, side, side)."""

    x0: Tensor
    """Modes of the sharp images."""

    mean: Tensor
    """Modes of the restored images: the hint and, with ``std``, the posterior of x_lr."""

    std: Tensor
    """Standard deviations of the restored images' posteriors."""


@torch.no_grad()
def encode_pool(
    restorer: nn.Module,
    encoder: Encoder,
    pool: ImageBatch,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None],
) -> Latents:
    """Return the latents of VIEWS pieces of every image: degraded, restored, encoded."""
    rows: tuple[list[Tensor], ...] = ([], [], [])
    for i in range(len(pool) * VIEWS):
        random = np.random.default_rng([seed, i, 1])
        hr = pieces(pool, [i // VIEWS], random, IMAGE_SIZE)
        lr = as_tensor(degraded(hr, random)).to(device)
        with _half(device):
            restored = restorer(lr).float().clamp(0.0, 1.0)
            found = (encoder(as_tensor(hr).to(device))[0], *encoder(restored))
        for row, value in zip(rows, found, strict=True):
            row.append(value.half().cpu())
        advance(1)
    return Latents(*(torch.cat(row) for row in rows))


def denoiser_loss(
    network: Denoiser,
    latents: Latents,
    prompt: Tensor,
    process: Process,
    training: Training,
    device: torch.device,
) -> Loss:
    """Return the loss of ``process`` as a function; levels are uniform over those that it trains."""
    side = latents.x0.shape[-1] - training.crop + 1

    def loss(random: np.random.Generator) -> Tensor:
        crops: tuple[list[Tensor], ...] = ([], [], [])
        for index in random.integers(len(latents.x0), size=training.batch):
            y, x = random.integers(side, size=2)
            for row, source in zip(crops, (latents.x0, latents.mean, latents.std), strict=True):
                row.append(source[index, :, y : y + training.crop, x : x + training.crop])
        x0, mean, std = (torch.stack(row).float().to(device) for row in crops)
        x_lr = mean + std * torch.randn_like(std)
        levels = random.integers(process.first, process.last + 1, size=training.batch)
        level = torch.from_numpy(levels).to(device)
        point = Point(level, x0, x_lr, torch.randn_like(x0))
        read = process.reads(point)
        with _half(device):
            text = prompt.expand(len(x0), -1, -1)
            out = network(read, mean, level * process.pace, text)
        return process.loss(out.float(), point)

    return loss


@dataclass(frozen=True)
class Decodings:
    """Results of the sampler, and what the decoder shall make of each."""

    latents: Tensor
    """Scaled, float16, (count, channels, side, side)."""

    images: ImageBatch


def sample_pool(
    pipeline: Pipeline, pool: ImageBatch, seed: int, advance: Callable[[int], None]
) -> Decodings:
    """Return the sampler's results for all plain images of a pool and for as many others.

    A plain image shall become itself. Another shall become what the decoder makes of it already, so that
    it keeps its detail: invented detail lies elsewhere than the sharp image's, so that this would teach blur.
    """
    plain = [number for number in range(len(pool)) if is_plain(number)]
    others = [number for number in range(len(pool)) if not is_plain(number)]
    chosen = plain + others[: len(plain)]
    latents, wanted = [], []
    for number in chosen:
        random = np.random.default_rng([seed, number, 2])
        hr = pieces(pool, [number], random, IMAGE_SIZE)
        seen: dict[str, Array] = {}
        pipeline.upscale(degraded(hr, random)[0], seed=number, observe=partial(_keep, seen))
        latents.append(torch.from_numpy(seen["latent"]).half())
        wanted.append(hr if is_plain(number) else _pixels(seen["decoded"]))
        advance(len(pool) // len(chosen))
    return Decodings(torch.cat(latents), np.concatenate(wanted))


def _keep(seen: dict[str, Array], name: str, array: Array) -> None:
    """Keep a copy of what the decoder reads and gives; the sampler may write into its arrays again."""
    if name in ("latent", "decoded"):
        seen[name] = np.array(array)


def _pixels(decoded: Array) -> ImageBatch:
    """Return (batch, 3, h, w), nominally in [0, 1], as uint8 (batch, h, w, 3)."""
    return quantize(np.clip(decoded.transpose(0, 2, 3, 1), 0.0, 1.0), np.dtype(np.uint8))


def decoder_loss(
    network: Decoder, decodings: Decodings, training: Training, device: torch.device
) -> Loss:
    """Return the L1 distance between decoded and wanted images, as a function."""
    factor = decodings.images.shape[1] // decodings.latents.shape[-1]
    side = training.crop // factor
    last = decodings.latents.shape[-1] - side

    def loss(random: np.random.Generator) -> Tensor:
        latents, images = [], []
        for index in random.integers(len(decodings.latents), size=training.batch):
            y, x = random.integers(last + 1, size=2)
            latents.append(decodings.latents[index, :, y : y + side, x : x + side])
            rows, columns = (slice(n * factor, (n + side) * factor) for n in (y, x))
            images.append(decodings.images[index, rows, columns])
        x = torch.stack(latents).float().to(device)
        with _half(device):
            decoded = network(x)
        error: Tensor = F.l1_loss(decoded.float(), as_tensor(np.stack(images)).to(device))
        return error

    return loss


def _half(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 where the processor supports it; elsewhere it would be slower."""
    native = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
