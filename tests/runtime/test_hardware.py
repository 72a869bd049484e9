"""Facts about the machine."""

import numpy as np
import pytest

from dossr.runtime.hardware import (
    cpu_cores,
    cpu_model,
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
