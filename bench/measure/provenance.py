"""Provenance of a measurement: machine, software, state of the code."""

import hashlib
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ... import __version__
from ...runtime.files import write_whole
from ...runtime.hardware import (
    GpuError,
    cpu_cores,
    cpu_model,
    find_gpu,
    package_versions,
    total_memory,
)

IDENTITY = ("machine", "cpu", "cores", "threads", "gpu", "driver", "versions", "sources")
"""Fields that must be equal in all rows of a file; the commit may differ if no source does."""

_PACKAGES = r"(torch|onnxruntime(-gpu)?|tensorrt|cupy-cuda1[23]x|openvino|ray|onnx|onnxscript|diffusers|transformers|numpy)$"
_GPU_STATE = {
    "sm_clock_mhz": "clocks.sm",
    "sm_clock_limit_mhz": "clocks.max.sm",
    "memory_clock_mhz": "clocks.mem",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
}
"""Our names and those of nvidia-smi."""

_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("solvers", "runtime", "export", "bench")


def provenance() -> dict[str, Any]:
    """Return the fields of ``Results.provenance`` except ``matmul_tmac_s``, which is measured."""
    import torch

    gpu, driver = _gpu()
    return {
        "machine": platform.node(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": cpu_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": total_memory(),
        "gpu": gpu,
        "driver": driver,
        "gpu_state": _gpu_state(),
        "versions": {
            "python": platform.python_version(),
            "dossr": __version__,
            **package_versions(_PACKAGES),
        },
        "commit": _commit(),
        "sources": _sources(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def save(document: Mapping[str, Any], file: Path) -> None:
    """Write figures and their provenance as JSON."""
    text = json.dumps({"provenance": provenance(), **document}, indent=1)
    write_whole(file, f"{text}\n".encode())


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the first field of IDENTITY that differs, with both values, or an empty string."""
    for name in IDENTITY:
        if there.get(name) != here[name]:
            return f"{name} is {there.get(name)} there and {here[name]} here"
    return ""


def _gpu() -> tuple[str | None, str | None]:
    """Return name and driver of the first GPU; None where there is none."""
    try:
        gpu = find_gpu()
    except GpuError:
        return None, None
    return gpu.name, gpu.driver


def _gpu_state() -> dict[str, float]:
    """Return what nvidia-smi reports of clocks, power and temperature; empty without it."""
    query = f"--query-gpu={','.join(_GPU_STATE.values())}"
    printed = _output(["nvidia-smi", query, "--format=csv,noheader,nounits", "--id=0"])
    found: dict[str, float] = {}
    for name, text in zip(_GPU_STATE, printed.split(","), strict=False):
        with suppress(ValueError):  # "[N/A]", as for the power of a Jetson
            found[name] = float(text)
    return found


def _commit() -> str | None:
    """Return the commit, with a plus if the sources differ from it; None outside of git."""
    head = _output(["git", "-C", str(_ROOT), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(_ROOT), "status", "--porcelain", "--", *_ROOMS])
    return f"{head}+" if head and changed else head or None


def _sources() -> str:
    """Return a hash of every module that can change a measurement: all except the reports."""
    digest = hashlib.sha256()
    for room in _ROOMS:
        found = sorted((_ROOT / room).rglob("*.py"))
        if not found:
            raise RuntimeError(f"no sources in {_ROOT / room}")
        for path in found:
            if "report" not in (path.parent.name, path.stem):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _output(command: list[str]) -> str:
    """Return what a program prints; empty if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
