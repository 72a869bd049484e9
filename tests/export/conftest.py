"""Fixtures of the export's tests."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"


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
