"""The GPU, its driver and the Jetson around it, read without any package: what engine keys and the doctor need."""

import ctypes
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute of cuda.h
_PATIENCE = 5.0  # seconds for a system tool


class GpuError(RuntimeError):
    """There is no NVIDIA GPU that can be used; the message says why, in one line."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU, as the driver names it."""

    name: str
    capability: str
    """Compute capability, such as 8.7."""

    memory: int
    """In bytes; on an integrated GPU the machine's own."""

    is_integrated: bool
    cuda: str
    """The newest CUDA version that the driver serves, such as 13.0."""

    driver: str
    """The driver's own version, such as 580.65.06; the CUDA version where no tool tells it."""


@dataclass(frozen=True)
class Jetson:
    """The Jetson that this machine is."""

    model: str
    jetpack: str
    """Such as 6.2.1; the major number alone where only the Linux release tells it; else 'unknown'."""

    power_mode: str
    """As nvpmodel names it; 'unknown' where it does not answer."""


def find_gpu() -> Gpu:
    """The first GPU. Raises GpuError where there is no driver or no GPU."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise GpuError(f"no NVIDIA driver ({_LIBRARY} is not there)") from error
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    code = cuda.cuInit(0)
    if code:
        raise GpuError(
            f"the NVIDIA driver does not start (CUDA error {code}; a container needs "
            "--gpus all, on a Jetson --runtime nvidia)"
        )
    _call(cuda.cuDriverGetVersion, ctypes.byref(version))
    _call(cuda.cuDeviceGetCount, ctypes.byref(count))
    if not count.value:
        raise GpuError("the NVIDIA driver finds no GPU (is CUDA_VISIBLE_DEVICES empty?)")
    _call(cuda.cuDeviceGet, ctypes.byref(device), 0)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(cuda.cuDeviceGetName, name, len(name), device)
    _call(cuda.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    served = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=f"{_attribute(cuda, _MAJOR, device)}.{_attribute(cuda, _MINOR, device)}",
        memory=memory.value,
        is_integrated=bool(_attribute(cuda, _INTEGRATED, device)),
        cuda=served,
        driver=_driver() or f"CUDA {served}",
    )


def find_jetson() -> Jetson | None:
    """The Jetson that this machine is, or None."""
    model = _text(Path("/proc/device-tree/model")).strip("\0\n ")
    release = _text(Path("/etc/nv_tegra_release"))
    is_tegra = "tegra" in _text(Path("/proc/device-tree/compatible"))
    if not (release or is_tegra):
        return None
    package = _output("dpkg-query", "-W", "-f=${Version}", "nvidia-jetpack")
    mode = re.search(r"Power Mode:\s*(\S+)", _output("nvpmodel", "-q"))
    return Jetson(
        model=model or "Jetson",
        jetpack=package.split("+")[0].strip() or jetpack_of(release),
        power_mode=mode[1] if mode else "unknown",
    )


def jetpack_of(release: str) -> str:
    """The major JetPack version of the Linux release in ``/etc/nv_tegra_release``, or 'unknown'."""
    found = re.search(r"R(\d+)", release)
    return (
        {35: "5", 36: "6", 38: "7", 39: "7"}.get(int(found[1]), "unknown") if found else "unknown"
    )


def _attribute(cuda: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(cuda.cuDeviceGetAttribute, ctypes.byref(value), number, device)
    return value.value


def _call(function: "ctypes._NamedFuncPointer", *arguments: object) -> None:
    code = function(*arguments)
    if code:
        raise GpuError(f"the NVIDIA driver fails: {function.__name__} gave CUDA error {code}")


def _driver() -> str:
    """The driver's version from the kernel, or from nvidia-smi; empty where neither tells it."""
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", _text(Path("/proc/driver/nvidia/version")))
    if found:
        return found[1]
    lines = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    return lines[0] if lines else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _output(program: str, *arguments: str) -> str:
    """What a system tool prints; empty where it is not there, fails or does not end."""
    if not shutil.which(program):
        return ""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
