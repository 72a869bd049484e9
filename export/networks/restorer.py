"""RRDBNet x4, DoSSR's restorer (ESRGAN, Wang et al. 2018), with BasicSR's tensor names."""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoint.config import RestorerConfig

_SLOPE = 0.2  # negative slope of every LeakyReLU
_RESIDUAL = 0.2  # residual scale of dense blocks and RRDBs


class DenseBlock(nn.Module):
    """Five 3x3 convolutions; each takes the input and all earlier outputs."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.conv1 = _conv(features, growth)
        self.conv2 = _conv(features + growth, growth)
        self.conv3 = _conv(features + 2 * growth, growth)
        self.conv4 = _conv(features + 3 * growth, growth)
        self.conv5 = _conv(features + 4 * growth, features)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), _SLOPE))
        out: Tensor = x + self.conv5(torch.cat(seen, 1)) * _RESIDUAL
        return out


class RRDB(nn.Module):
    """Three dense blocks with a residual connection around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.rdb3(self.rdb2(self.rdb1(x))) * _RESIDUAL
        return out


class RRDBNet(nn.Module):
    """Map images (batch, 3, h, w) in [0, 1] to (batch, 3, 4h, 4w), unclamped."""

    def __init__(self, features: int, blocks: int, growth: int) -> None:
        super().__init__()
        self.conv_first = _conv(3, features)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = _conv(features, features)
        self.conv_up1 = _conv(features, features)
        self.conv_up2 = _conv(features, features)
        self.conv_hr = _conv(features, features)
        self.conv_last = _conv(features, 3)

    def forward(self, lr: Tensor) -> Tensor:
        first = self.conv_first(lr)
        x = first + self.conv_body(self.body(first))
        for conv in (self.conv_up1, self.conv_up2):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), _SLOPE)
        out: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), _SLOPE))
        return out


def new_restorer(widths: RestorerConfig) -> RRDBNet:
    """Return the network with random weights on torch's default device."""
    return RRDBNet(widths.features, widths.blocks, widths.growth)


class Restorer(nn.Module):
    """RRDBNet with its output clamped to [0, 1]."""

    def __init__(self, network: RRDBNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        return torch.clamp(self.network(lr), 0.0, 1.0)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


# First the names of BSRGAN and of ESRGAN's "new" architecture, then of its "old" one.
_RENAMES = (
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"trunk_conv\.", "conv_body."),
    (r"upconv(\d)\.", r"conv_up\1."),
    (r"HRconv\.", "conv_hr."),
    (r"model\.0\.", "conv_first."),
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
    (r"model\.1\.sub\.\d+\.", "conv_body."),
    (r"model\.3\.", "conv_up1."),
    (r"model\.6\.", "conv_up2."),
    (r"model\.8\.", "conv_hr."),
    (r"model\.10\.", "conv_last."),
)


def basicsr_name(name: str) -> str:
    """Return the BasicSR name of an RRDBNet tensor named as in BasicSR, BSRGAN or old ESRGAN."""
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    return name
