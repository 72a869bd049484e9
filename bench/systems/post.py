"""Colour fixes of the official scripts, on the device."""

import torch
from torch import Tensor
from torch.nn import functional as F

_LEVELS = 5


def wavelet(decoded: Tensor, reference: Tensor) -> Tensor:
    """Combine high frequencies of ``decoded`` with low frequencies of ``reference``.

    Both are (n, 3, h, w) in [0, 1]. Five a-trous levels of each, as in the scripts (about 0.07 GMAC
    at 512 x 512).
    """
    return decoded - _low(decoded) + _low(reference)


def adain(decoded: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of ``decoded`` the mean and standard deviation of ``reference``."""
    std, mean = torch.std_mean(decoded, (2, 3), keepdim=True)
    target_std, target_mean = torch.std_mean(reference, (2, 3), keepdim=True)
    return (decoded - mean) / (std + 1e-5) * target_std + target_mean


def _low(image: Tensor) -> Tensor:
    line = image.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    for level in range(_LEVELS):
        radius = 2**level
        padded = F.pad(image, (radius,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel, dilation=radius, groups=3)
    return image
