"""Synthetic weights: seeded by each tensor's name, scaled by its fan-in."""

import math
import zlib

import torch
from torch import nn


@torch.no_grad()
def fill(network: nn.Module, seed: int = 0) -> None:
    """Draw every parameter from a normal distribution with variance 1 / fan-in, in place.

    Norm weights are close to 1. No parameter stays zero, so every operation affects the output,
    including those behind the zero convolutions of a new ControlNet.
    """
    for name, parameter in network.named_parameters():
        generator = torch.Generator(parameter.device)
        generator.manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
        parameter.normal_(generator=generator)
        if parameter.ndim >= 2:
            parameter.div_(math.sqrt(math.prod(parameter.shape[1:][-3:])))  # per expert in a bank
        else:
            parameter.mul_(0.05)
            if name.endswith("weight"):
                parameter.add_(1.0)
