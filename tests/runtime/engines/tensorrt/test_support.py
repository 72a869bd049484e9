"""Supported versions of TensorRT."""

import pytest

from dossr.runtime.engines.tensorrt import support


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


@pytest.mark.parametrize(
    ("version", "opset"),
    [
        ("10.3.0", 18),
        ("10.9.0.34", 18),
        ("10.13.3.9.post1", 18),
        ("10.14.1.48.post1", 23),
        ("11.4", 23),
    ],
)
def test_the_operator_set_follows_the_parser(version, opset):
    assert support.best_opset(version) == opset
