"""Facts about the machine."""

import sys

import numpy as np
import pytest

from dossr.runtime.hardware import (
    Gpu,
    Jetson,
    cpu_cores,
    cpu_model,
    extra_for,
    find_extra,
    free_memory,
    jetpack_of,
    package_versions,
    total_memory,
)


@pytest.mark.parametrize(
    ("release", "jetpack"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "6"),
        ("# R38 (release), REVISION: 2.0", "7"),
        ("# R99 (release)", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_linux_release_tells_the_major_jetpack(release, jetpack):
    assert jetpack_of(release) == jetpack


def test_this_machine_is_described():
    assert cpu_model()
    assert cpu_cores() >= 1
    total, free = total_memory(), free_memory()
    assert total is None or (free is not None and 0 < free <= total)


def test_package_versions_are_found_by_pattern():
    assert package_versions("numpy$") == {"numpy": np.__version__}
    assert package_versions("no-such-package") == {}


def test_of_a_package_that_is_there_twice_the_first_is_the_one_imported(tmp_path, monkeypatch):
    """As in an environment that sees the system's packages, the normal case on a Jetson."""
    for version in ("2", "1"):
        folder = tmp_path / version / f"twice-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: twice\nVersion: {version}\n")
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / version)])
    assert package_versions("twice") == {"twice": "2"}


@pytest.mark.parametrize(
    ("device", "cuda", "jetpack", "extra"),
    [
        ("cpu", None, None, "cpu"),
        ("cuda", "13.0", None, "cuda"),
        ("tensorrt", None, None, "tensorrt"),
        ("tensorrt", "13.3", None, "tensorrt"),
        ("tensorrt", "12.8", None, "tensorrt-cu12"),
        ("tensorrt-rtx", "12.8", None, "tensorrt-rtx"),
        ("tensorrt", "12.6", "6.2.1", "jetpack6"),
        ("tensorrt", "13.0", "7.2.2", "jetpack7"),
        ("cpu", "12.6", "6.2.1", "cpu"),
        ("openvino:GPU", None, None, "openvino"),
        ("openvino", "12.6", "6.2.1", "openvino"),
        ("auto", "13.0", None, "cpu"),
        ("auto", "12.6", "6.2.1", "cpu"),
    ],
)
def test_the_extra_is_that_of_the_machine(device, cuda, jetpack, extra):
    gpu = Gpu("a GPU", "8.9", 8 << 30, False, cuda, "570.1") if cuda else None
    assert extra_for(device, gpu, jetpack and Jetson("a Jetson", jetpack, "MAXN")) == extra


def test_every_machine_has_an_extra_for_each_device():
    assert find_extra("cpu") == "cpu"
