"""Supported versions of TensorRT."""

import pytest

from dossr.runtime.engines.tensorrt import support
from dossr.runtime.engines.tensorrt.options import BuildOptions


@pytest.mark.parametrize(
    ("version", "jetpack", "words"),
    [
        ("10.2.0", None, "10.3 or newer"),
        ("10.3.0", "6.2", None),
        ("10.16.1.11", None, None),
        ("11.0.0.114", None, None),
        ("11.0.0.114", "7.2.2", "11.0 to 11.4.0 have no JetPack"),
        ("11.3.0.99", "6.2", "11.0 to 11.4.0 have no JetPack"),
        ("11.4.0.106", "7.2.2", "11.0 to 11.4.0 have no JetPack"),
        ("11.4.1.20", "7.2.2", None),
        ("11.4.1.20", "7.2.1", "needs JetPack 7.2.2"),
        ("11.4.1.20", "6.2.1", "needs JetPack 7.2.2"),
        ("11.4.1.20", "7", None),
        ("11.4.1.20", "6", "needs JetPack 7.2.2"),
        ("11.4.1.20", "unknown", None),
        ("11.5.0", "7.3", None),
    ],
)
def test_tensorrt_is_refused_where_it_does_not_serve(version, jetpack, words):
    found = support.refusal(version, jetpack)
    assert found is None if words is None else words in found


def test_tensorrt_rtx_does_not_serve_a_jetson():
    assert support.refusal("1.7.1", None, "tensorrt-rtx") is None
    assert "use --device tensorrt" in support.refusal("1.7.1", "7.2.2", "tensorrt-rtx")


@pytest.mark.parametrize(
    ("library", "version", "target"),
    [
        ("tensorrt", "10.3.0", "tensorrt-10.3"),
        ("tensorrt", "10.9.0.34", "tensorrt-10.3"),
        ("tensorrt", "10.13.3.9.post1", "tensorrt-10.3"),
        ("tensorrt", "10.14.1.48.post1", "tensorrt"),
        ("tensorrt", "11.4", "tensorrt"),
        ("tensorrt-rtx", "1.7.1.116", "tensorrt"),
    ],
)
def test_the_target_follows_the_parser(library, version, target):
    assert support.target_of(library, version) == target


@pytest.mark.parametrize(
    ("options", "library", "more", "words"),
    [
        ({}, "tensorrt", {"is_jetson": True}, None),
        ({"gpus": "ampere-or-newer"}, "tensorrt", {}, None),
        ({"gpus": "ampere-or-newer"}, "tensorrt", {"is_jetson": True}, "leave out hardware-compatible"),
        ({"gpus": "same-capability"}, "tensorrt", {"is_jetson": True}, "leave out same-capability"),
        ({"gpus": "same-capability"}, "tensorrt-rtx", {}, "no same-capability; build ahead of time"),
        ({"is_version_compatible": True}, "tensorrt-rtx", {}, "no version-compatible"),
        ({"is_stripped": True}, "tensorrt-rtx", {}, None),
        ({"is_stripped": True}, "tensorrt-rtx", {"is_ahead": True}, "leave out stripped"),
    ],
)  # fmt: skip
def test_options_are_refused_where_they_do_not_serve(options, library, more, words):
    found = support.option_refusal(BuildOptions(**options), library, **more)
    assert found is None if words is None else words in found
