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
from ...runtime.images.color import wavelet
from ...runtime.pipeline import Pipeline
from ...runtime.tensors import Array
from ...solvers import NoiseLevels
from ..networks.autoencoder import Decoder, Encoder
from ..networks.denoiser import Denoiser
from ..processes.blur import Blur
from ..processes.diffusion import Diffusion, DomainShift
from ..processes.forward import Point, Process
from ..processes.residual import ResidualShift
from ..processes.straight import Straight
from .images import is_plain
from .pool import ImageBatch, as_tensor, degraded, pieces, sharp_batch
from .recipe import (
    COARSE,
    COARSE_WEIGHT,
    IMAGE_SIZE,
    KEEP,
    KEEP_PLAIN,
    KL_WEIGHT,
    REDUCED,
    VIEWS,
    Training,
)
from .train import Loss

_STEPS = 5
"""Steps of ResShift, which is trained on the levels that it samples."""

_PROCESSES: dict[str, Callable[[NoiseLevels], Process]] = {
    "dossr": lambda levels: DomainShift(levels),
    "ddpm": lambda levels: Diffusion(levels),
    "colddiff": lambda levels: Blur(),
    "resshift": lambda levels: ResidualShift(_STEPS),
    "flow": lambda levels: Straight(),
}


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
        return error + _coarse_error(found.clamp(0.0, 1.0), wanted)

    return loss


def _coarse_error(found: Tensor, wanted: Tensor) -> Tensor:
    coarse: Tensor = F.l1_loss(F.avg_pool2d(found, COARSE), F.avg_pool2d(wanted, COARSE))
    return COARSE_WEIGHT * coarse


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


def process(objective: str, levels: NoiseLevels) -> Process:
    """Return the process of an objective of the recipe."""
    return _PROCESSES[objective](levels)


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
class Sampled:
    """What a bundle makes of images: the first half of them plain, the others not."""

    restored: Tensor
    """In [0, 1], float16, (count, 3, side, side)."""

    added: Tensor
    """The sampler's result less the restored image's latent, scaled, float16, (count, channels, h, w)."""

    images: ImageBatch
    """What shall come out.

    A plain image shall become itself. Another shall keep the detail that the bundle makes already, in its own
    colours: invented detail lies elsewhere than the sharp image's, so that this would teach blur.
    """


def sample_pool(
    pipeline: Pipeline, pool: ImageBatch, seed: int, advance: Callable[[int], None]
) -> Sampled:
    """Return what a pipeline makes of all plain images of a pool, and of as many others."""
    plain = [number for number in range(len(pool)) if is_plain(number)]
    others = [number for number in range(len(pool)) if not is_plain(number)]
    chosen = plain + others[: len(plain)]
    restored, added, wanted = [], [], []
    for number in chosen:
        random = np.random.default_rng([seed, number, 2])
        hr = pieces(pool, [number], random, IMAGE_SIZE)
        seen: dict[str, Array] = {}
        pipeline.upscale(degraded(hr, random)[0], seed=number, observe=partial(_keep, seen))
        restored.append(torch.from_numpy(seen["restored"].clip(0.0, 1.0)).half())
        added.append(torch.from_numpy(seen["latent"] - seen["hint"]).half())
        wanted.append(hr if is_plain(number) else _with_colors(seen["decoded"], hr))
        advance(len(pool) // len(chosen))
    return Sampled(torch.cat(restored), torch.cat(added), np.concatenate(wanted))


def _keep(seen: dict[str, Array], name: str, array: Array) -> None:
    """Keep a copy; the sampler may write into its arrays again."""
    if name in ("restored", "hint", "latent", "decoded"):
        seen[name] = np.array(array)


def _with_colors(decoded: Array, sharp: ImageBatch) -> ImageBatch:
    """Return a decoded image, float32 (1, 3, h, w), with the colours of a sharp one, uint8 (1, h, w, 3)."""
    fixed = wavelet(decoded, as_tensor(sharp).numpy()).transpose(0, 2, 3, 1)
    return quantize(np.clip(fixed, 0.0, 1.0), np.dtype(np.uint8))


def whole_loss(
    autoencoder: tuple[Encoder, Decoder],
    hold: Callable[[], None],
    before: Encoder,
    sampled: Sampled,
    training: Training,
    device: torch.device,
) -> Loss:
    """Return the error of images that are restored, encoded, changed as by the sampler, and decoded.

    ``hold`` keeps the norms steady. Latents shall stay near those of ``before``, for which the denoiser was
    trained. The trained networks run in float32: bfloat16 moves saturated colours by up to 5 levels.
    """
    encoder, decoder = autoencoder
    weights = torch.tensor([KEEP_PLAIN, KEEP], device=device)

    def loss(random: np.random.Generator) -> Tensor:
        reduced = int(random.choice(REDUCED))
        side, count = training.crop // reduced, training.batch * reduced
        hold()
        drawn = _draw_changes(sampled, random, count, side)
        restored, added, wanted = (each.to(device) for each in drawn)
        latents = encoder(restored)[0]
        found = decoder(latents + added)
        with torch.no_grad(), _half(device):
            old = before(restored)[0].float()
        moved = (latents - old).abs().mean((1, 2, 3))
        kept = weights[torch.arange(count, device=device) % 2]
        distance: Tensor = (kept * moved).sum() * 2.0 / count
        return distance + F.l1_loss(found, wanted) + _coarse_error(found, wanted)

    return loss


def _draw_changes(
    sampled: Sampled, random: np.random.Generator, count: int, side: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return restored images, what the sampler adds to their latents, and what they shall become.

    The first of every two is plain, the second is not.
    """
    half, size = len(sampled.images) // 2, sampled.images.shape[1]
    factor = size // sampled.added.shape[-1]
    images, added, wanted = [], [], []
    for number in range(count):
        which = int(random.integers(half)) + number % 2 * half
        y, x = random.integers((size - side) // factor + 1, size=2)
        rows, columns = (slice(n, n + side // factor) for n in (y, x))
        added.append(sampled.added[which, :, rows, columns].float())
        rows, columns = (slice(n * factor, n * factor + side) for n in (y, x))
        images.append(sampled.restored[which, :, rows, columns].float())
        wanted.append(sampled.images[which, rows, columns])
    return torch.stack(images), torch.stack(added), as_tensor(np.stack(wanted))


def _half(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 where the processor supports it; elsewhere it would be slower."""
    native = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
