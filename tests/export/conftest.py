"""Fixtures of the export's tests."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.export.checkpoint.config import (
    ModelConfig,
    RestorerConfig,
    TextConfig,
    UNetConfig,
    VaeConfig,
)

IMAGES = Path(__file__).parents[1] / "images"

SMALL_MODELS = {  # parts, latent scale, and the fields of the YAML file about the UNet's heads
    "1 level, attention in the middle block only, f8 without attention, 8 latent channels": (
        UNetConfig(8, (64,), 3, (False,), 1, 32, True, (4,)),
        VaeConfig(8, (32, 32, 64, 96), 1, attention=False),
        TextConfig(32, 2, 2), RestorerConfig(8, 1, 4), 0.18215,
        {"num_head_channels": 16},
    ),
    "2 levels, the second 1.5 times as wide, convolutional projections, f4, fewer groups in norms": (
        UNetConfig(4, (64, 96), 1, (False, True), 1, 48, False, (4, 4), groups=16),
        VaeConfig(4, (32, 64, 64), 2, groups=8),
        TextConfig(48, 3, 6), RestorerConfig(12, 3, 6), 0.18215,
        {"num_heads": 4, "num_head_channels": -1},
    ),
    "3 levels, attention on all, depth 2, f2, another latent scale": (
        UNetConfig(4, (32, 64, 96), 2, (True, True, True), 2, 64, True, (2, 4, 6)),
        VaeConfig(4, (64, 32), 3),
        TextConfig(64, 4, 1), RestorerConfig(16, 2, 8), 0.3,
        {"num_heads": 8, "num_head_channels": 16},  # the width takes precedence
    ),
    "5 levels, attention on two, f1": (
        UNetConfig(
            4, (32, 64, 64, 96, 96), 1, (True, False, False, True, False), 1, 32, True, (2,) * 5
        ),
        VaeConfig(4, (32,), 1),
        TextConfig(32, 3, 4), RestorerConfig(8, 1, 8), 0.18215,
        {"num_heads": 2},
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_shapes(golden):
    """The shape of every tensor of the tiny model, by official name."""
    layout = json.loads((golden / "tiny_layout.json").read_text())
    return {name: tuple(shape) for name, shape in layout.items()}


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Four procedural images, uint8 (4, 256, 256, 3)."""
    from dossr.export.demo_training.pool import images

    return images(tmp_path_factory.mktemp("pool") / "images.npy", 4, 0, lambda _count: None)


@pytest.fixture(scope="session")
def photograph():
    """A photograph, float32 (1, 3, 128, 128) in [0, 1]."""
    from dossr.export.demo_training.pool import as_tensor

    image = np.asarray(Image.open(IMAGES / "astronaut.png"))
    return as_tensor(image[None, :, :, :3])


@pytest.fixture(params=SMALL_MODELS)
def small_model(request):
    """The configuration of a small model, and the fields of its YAML file about heads."""
    *parts, heads = SMALL_MODELS[request.param]
    return ModelConfig(*parts), heads
