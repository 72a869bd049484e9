"""DASR: a predictor weights five experts; the generator's convolutions are their weighted sum."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .system import Call, Component, Figures, Input, Network, Noise, Published, System

EXPERTS = 5
_SLOPE = 0.1  # of the generator's LeakyReLUs
_DEGRADATION = 33  # degradation features
_PREDICTOR = 0.468143  # millions of parameters
_GENERATOR = 7.587855


@dataclass(frozen=True)
class DasrConfig:
    """Size of the generator and width of the predictor; the defaults are the official values."""

    features: int = 64
    blocks: int = 16


REDUCED = DasrConfig(features=16, blocks=2)


def dasr(size: int = 128, reduced: bool = False) -> System:
    """Return DASR (Liang et al. 2022), the test procedure of its SRGANDynamicModel."""
    config = REDUCED if reduced else DasrConfig()
    lr = Input("lr", (1, 3, size, size))
    predictor = Network(
        "predictor",
        partial(Predictor, config.features),
        (lr,),
        ("weights",),
        1,
        Figures(_PREDICTOR, 4.489),
    )
    generator = Network(
        "generator",
        partial(Generator, config),
        (lr, Input("weights", (1, EXPERTS))),
        ("image",),
        1,
        Figures(_GENERATOR, 41.560),
    )
    return System(
        name="dasr",
        title="DASR",
        networks=(predictor, generator),
        upscale=_upscale,
        components=(
            Component("predictor", predictor.build, _PREDICTOR),
            Component("generator", generator.build, _GENERATOR),
        ),
        published=Published(parameters=8.07, latency=0.04, maniqa=0.3196),
        gmac=46.05,
    )


def _upscale(call: Call, lr: Tensor, _noise: Noise) -> Tensor:
    (weights,) = call("predictor", lr=lr)
    (image,) = call("generator", lr=lr, weights=weights)
    return image.clamp(0.0, 1.0)


class Predictor(nn.Module):
    """Images (batch, 3, h, w) in [0, 1] -> expert weights (batch, 5), possibly negative."""

    def __init__(self, features: int) -> None:
        super().__init__()
        widths = (3, *(features,) * 5, _DEGRADATION)
        layers: list[nn.Module] = []
        for i in range(6):
            stride = 2 if i == 3 else 1
            layers += [nn.Conv2d(widths[i], widths[i + 1], 5, stride, 2), nn.LeakyReLU(0.2)]
        self.ConvNet = nn.Sequential(*layers)
        self.MappingNet = nn.Sequential(nn.Linear(_DEGRADATION, 15), nn.Linear(15, EXPERTS))

    def forward(self, lr: Tensor) -> Tensor:
        weights: Tensor = self.MappingNet(self.ConvNet(lr).mean((2, 3)))
        return weights


class Generator(nn.Module):
    """Images (batch, 3, h, w) in [0, 1], weights (batch, 5) -> (batch, 3, 4h, 4w), unclamped."""

    def __init__(self, config: DasrConfig) -> None:
        super().__init__()
        features = config.features
        self.conv_first = MixedConv(3, features)
        self.body = nn.ModuleList(Block(features) for _ in range(config.blocks))
        self.upconv1 = MixedConv(features, 4 * features)
        self.upconv2 = MixedConv(features, 4 * features)
        self.conv_hr = MixedConv(features, features)
        self.conv_last = MixedConv(features, 3)

    def forward(self, lr: Tensor, weights: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv_first(lr, weights), _SLOPE)
        for block in self.body:
            x = block(x, weights)
        for conv in (self.upconv1, self.upconv2):
            x = F.leaky_relu(F.pixel_shuffle(conv(x, weights), 2), _SLOPE)
        x = F.leaky_relu(self.conv_hr(x, weights), _SLOPE)
        base = F.interpolate(lr, scale_factor=4.0, mode="bilinear", align_corners=False)
        image: Tensor = self.conv_last(x, weights) + base
        return image


class Block(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = MixedConv(features, features)
        self.conv2 = MixedConv(features, features)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        change = self.conv2(F.relu(self.conv1(x, weights)), weights)
        out: Tensor = x + change
        return out


class MixedConv(nn.Module):
    """A 3x3 convolution per image: the sum of the experts, weighted by the image's weights."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(9 * inside)
        self.weight = nn.Parameter(torch.empty(EXPERTS, outside, inside, 3, 3))
        self.bias = nn.Parameter(torch.empty(EXPERTS, outside))
        for bank in (self.weight, self.bias):
            nn.init.uniform_(bank, -bound, bound)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        batch, inside, height, width = x.shape
        kernels = (weights @ self.weight.flatten(1)).reshape(-1, inside, 3, 3)
        biases = (weights @ self.bias).flatten()
        folded = x.reshape(1, batch * inside, height, width)
        found = F.conv2d(folded, kernels, biases, padding=1, groups=batch)
        return found.reshape(batch, -1, height, width)
