"""The count of living tensors against what it must be, and against a process's memory."""

import pytest
import torch
from torch import nn

from dossr.export.activations import SIDES, peak_bytes
from dossr.runtime.bundle import DEMO, open_bundle

MEGABYTE = 1 << 20  # of a (1, 1, 512, 512) image in float32


class Chain(nn.Module):
    """Holds the input and two results at most: the last one and the one before."""

    def forward(self, x):
        for _ in range(5):
            x = x + 1
        return x


class Skip(nn.Module):
    """Keeps its first result to the end."""

    def forward(self, x):
        first = x * 2
        x = first + 1
        x = x * 3
        return torch.cat([first, x], dim=1)


class InPlace(nn.Module):
    def forward(self, x):
        y = x.view(1, 1, -1).mul(2)
        y.add_(1)
        return y.view(x.shape)


@pytest.mark.parametrize(
    ("network", "images"), [(Chain(), 3), (Skip(), 1 + 1 + 1 + 2), (InPlace(), 2)]
)
def test_what_is_alive_at_once_is_counted(network, images):
    assert peak_bytes(network, [(1, 1, 512, 512)]) == images * MEGABYTE


def test_weights_are_not_counted_and_nothing_is_computed():
    network = nn.Conv2d(4, 4, 3, padding=1)
    network.weight.data.fill_(float("nan"))
    assert peak_bytes(network, [(1, 4, 256, 256)]) == 2 * MEGABYTE


def test_attention_counts_its_scores():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    tokens, heads = 512, 2
    found = peak_bytes(Attention(), [(1, heads, tokens, 8)])
    scores = heads * tokens * tokens * 4
    assert scores < found < 1.1 * scores


def test_every_stage_of_a_bundle_says_what_it_takes():
    for stage in open_bundle(DEMO).manifest.stages.values():
        assert tuple(record.side for record in stage.activations) == SIDES
        low, high = (record.bytes for record in stage.activations)
        assert 3.9 * low < high < 16.1 * low
