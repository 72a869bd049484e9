"""What a measurement says of the machine."""

import sys

import pytest

pytest.importorskip("torch")

from dossr.bench.measure.provenance import provenance


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_the_state_of_the_gpu_is_what_nvidia_smi_reports(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '1980, 2010, 2619, [N/A], 700.00, 41'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert provenance()["gpu_state"] == {
        "sm_clock_mhz": 1980, "sm_clock_limit_mhz": 2010, "memory_clock_mhz": 2619,
        "power_limit_w": 700, "temperature_c": 41,
    }  # fmt: skip


def test_without_nvidia_smi_nothing_is_said_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance()["gpu_state"] == {}
