"""Fixtures: an empty cache folder, devices of OpenVINO, and the demo's golden inputs."""

import pytest

from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.bundle.golden import largest_image
from dossr.runtime.engines.device import load_device
from dossr.runtime.engines.precision import parse_precision


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """This test's own, still missing, folder of compiled models."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    return tmp_path / "cache" / "dossr" / "openvino"


@pytest.fixture
def said():
    """What the devices of ``openvino`` told."""
    return []


@pytest.fixture
def openvino(said):
    """openvino(precision, name) loads a device."""

    def load(precision="fp32", name="openvino"):
        return load_device(name, precision=parse_precision(precision), log=said.append)

    return load


@pytest.fixture
def case():
    """case(stage) is a golden vector of the demo."""

    def find(stage):
        return largest_image(open_bundle(DEMO).golden(stage))[0]

    return find
