"""Where a measurement comes from: machine, software, state of the code."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from ... import __version__

IDENTITY = ("machine", "cpu", "cores", "threads", "gpu", "driver", "versions", "sources")
"""What must be equal for rows to stand in one file; a commit that changes no source may pass."""

_PACKAGES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "onnx",
    "onnxscript",
    "diffusers",
    "transformers",
    "numpy",
)
_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("solvers", "runtime", "export", "bench")


def provenance() -> dict[str, Any]:
    """What Results.provenance names, but for matmul_tmac_s, which is measured."""
    import torch

    gpu, driver = _gpu()
    return {
        "machine": platform.node(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": total_memory(),
        "gpu": gpu,
        "driver": driver,
        "versions": _versions(),
        "commit": _commit(),
        "sources": _sources(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first thing that keeps rows of two origins apart, or an empty string."""
    for name in IDENTITY:
        if there.get(name) != here[name]:
            return f"{name} is {there.get(name)} there and {here[name]} here"
    return ""


def total_memory() -> int | None:
    """Bytes that processes here can have; None where it cannot be known."""
    known = [size for size in (_meminfo("MemTotal"), _cgroup()) if size]
    return min(known, default=None)


def free_memory() -> int | None:
    """Bytes that can be had now; None where it cannot be known."""
    known = [size for size in (_meminfo("MemAvailable"), _cgroup()) if size]
    return min(known, default=None)


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(
        (int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None
    )


def _cgroup() -> int | None:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # none, or "max"
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> tuple[str | None, str | None]:
    """Name and driver of the first GPU, without taking memory on it."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    found = _output(query)
    if not found:
        return None, None
    name, _, driver = found.splitlines()[0].partition(", ")
    return name, driver


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "dossr": __version__}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit, with a plus behind it where the rooms differ from it; None outside of git."""
    head = _output(["git", "-C", str(_ROOT), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(_ROOT), "status", "--porcelain", "--", *_ROOMS])
    return f"{head}+" if head and changed else head or None


def _sources() -> str:
    """A hash of all that can change a measurement: every module but the report's."""
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
    """What a program prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
