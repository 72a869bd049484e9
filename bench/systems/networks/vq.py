"""The VQ autoencoder of latent diffusion (VQ-f4) that ResShift uses."""

from dataclasses import dataclass

from diffusers import VQModel
from torch import Tensor, nn
from torch.nn import functional as F

VQ_FACTOR = 4


@dataclass(frozen=True)
class VqConfig:
    """Widths of the three levels and size of the codebook."""

    latent_channels: int
    channels: tuple[int, int, int]
    blocks: int
    codes: int


class VqEncoder(nn.Module):
    """Images (n, 3, 4h, 4w) in [-1, 1] -> latents (n, c, h, w), not quantized."""

    def __init__(self, vq: VQModel) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vq.encoder, vq.quant_conv

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.quant_conv(self.encoder(image))
        return latent


class VqDecoder(nn.Module):
    """Latents (n, c, h, w) -> images (n, 3, 4h, 4w) in [-1, 1], after quantization."""

    def __init__(self, vq: VQModel) -> None:
        super().__init__()
        self.quantize, self.post_quant_conv, self.decoder = (
            vq.quantize,
            vq.post_quant_conv,
            vq.decoder,
        )

    def forward(self, latent: Tensor) -> Tensor:
        codes = quantize(latent, self.quantize.embedding.weight)
        image: Tensor = self.decoder(self.post_quant_conv(codes))
        return image


def quantize(latent: Tensor, codebook: Tensor) -> Tensor:
    """Replace every pixel by its nearest code; ``codebook`` is (codes, channels).

    |z - e|^2 is minimal where z.e - |e|^2 / 2 is maximal, which one linear layer computes.
    """
    score = F.linear(latent.movedim(1, -1), codebook, codebook.square().sum(1) / -2.0)
    return F.embedding(score.argmax(-1), codebook).movedim(-1, 1)


def vq_model(config: VqConfig) -> VQModel:
    """Build the whole autoencoder with initial weights."""
    levels = len(config.channels)
    model: VQModel = VQModel(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        latent_channels=config.latent_channels,
        num_vq_embeddings=config.codes,
        vq_embed_dim=config.latent_channels,
    )
    return model
