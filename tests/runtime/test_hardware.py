"""Facts about the machine."""

import pytest

from dossr.runtime.hardware import jetpack_of


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
