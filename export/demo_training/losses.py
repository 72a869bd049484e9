"""Training data and loss of each network: L1, as in the released recipe; the denoiser's is its process's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.autoencoder import Encoder
from ..networks.denoiser import Denoiser
from ..processes.forward import Point, Process
from .pool import ImageBatch, as_tensor, degraded, photographic, sharp_batch
from .recipe import IMAGE_SIZE, KL_WEIGHT, VIEWS, Training
from .train import Loss


def restorer_loss(
    network: nn.Module, pool: ImageBatch, training: Training, device: torch.device
) -> Loss:
    """Return the L1 distance between the restored and the sharp image, as a function."""

    def loss(random: np.random.Generator) -> Tensor:
        drawn = pool[random.integers(len(pool), size=training.batch)]
        hr = photographic(drawn, random, training.crop)
        lr = as_tensor(degraded(hr, random)).to(device)
        with _half(device):
            restored = network(lr)
        error: Tensor = F.l1_loss(restored.float(), as_tensor(hr).to(device))
        return error

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
        hr = photographic(pool[i // VIEWS][None], random, IMAGE_SIZE)
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


def _half(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 where the processor supports it; elsewhere it would be slower."""
    native = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
