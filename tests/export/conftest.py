"""Fixtures of the export's tests."""

import json

import pytest


@pytest.fixture(scope="session")
def tiny_shapes(golden):
    """The shape of every tensor of the tiny model, by official name."""
    layout = json.loads((golden / "tiny_layout.json").read_text())
    return {name: tuple(shape) for name, shape in layout.items()}
