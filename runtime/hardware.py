"""Facts about the machine, read without any engine library: CPU, memory, GPU, Jetson, packages."""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute of cuda.h
_CUDA = 13  # the major version of the wheels in the extras that do not name another one
_TIMEOUT = 5.0  # seconds for a system tool


class GpuError(RuntimeError):
    """No NVIDIA GPU can be used; the message gives the reason in one line."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, as the driver describes it."""

    name: str
    capability: str
    """Compute capability, such as 8.7."""

    memory: int
    """In bytes; the system memory if the GPU is integrated."""

    is_integrated: bool
    cuda: str
    """The newest CUDA version that the driver supports, such as 13.0."""

    driver: str
    """The driver's version, such as 580.65.06; the CUDA version if it is unknown."""


@dataclass(frozen=True)
class Jetson:
    """The Jetson that this machine is."""

    model: str
    jetpack: str
    """Such as 6.2.1; the major version alone if only the Linux release is known, or 'unknown'."""

    power_mode: str
    """As nvpmodel prints it, or 'unknown'."""


_CGROUP_VERSIONS = (
    (r"^0::(.*)$", Path("/sys/fs/cgroup"), "memory.max", "memory.current", r"^inactive_file (\d+)"),
    (r"^\d+:memory:(.*)$", Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes",
     "memory.usage_in_bytes", r"^total_inactive_file (\d+)"),
)  # fmt: skip
"""Of each version: the membership, the root folder, two files, and the cache in memory.stat."""


def cpu_model() -> str:
    """Return the processor's name."""
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def cpu_cores() -> int:
    """Return the number of logical cores."""
    return os.cpu_count() or 1


def usable_cores() -> int:
    """Return the number of logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return cpu_cores()


def total_memory() -> int | None:
    """Return the bytes of memory that processes may use here; None if unknown."""
    return _smallest(_meminfo("MemTotal"), *(limit for limit, _, _ in _memory_groups()))


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still take; None if unknown.

    The least of what the system has available, what is left in its control groups (containers) and
    below its limit of address space (``ulimit -v``).
    """
    return _smallest(_meminfo("MemAvailable"), _cgroup_free(), _address_space_left())


def package_versions(pattern: str) -> dict[str, str]:
    """Return the versions of installed packages whose name starts with a match of ``pattern``.

    Names are in lower case, with hyphens, and sorted. Nothing is imported.
    """
    found: dict[str, str] = {}
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if re.match(pattern, name):
            found.setdefault(name, distribution.version)  # Python imports the first of a name, too
    return dict(sorted(found.items()))


def find_gpu(index: int = 0) -> Gpu:
    """Return a GPU by its number; raise GpuError if there is no driver or no such GPU."""
    try:
        cuda = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise GpuError(f"no NVIDIA driver ({_LIBRARY} is missing)") from error
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
    _call(cuda.cuDeviceGet, ctypes.byref(device), index)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(cuda.cuDeviceGetName, name, len(name), device)
    _call(cuda.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    supported = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=f"{_attribute(cuda, _MAJOR, device)}.{_attribute(cuda, _MINOR, device)}",
        memory=memory.value,
        is_integrated=bool(_attribute(cuda, _INTEGRATED, device)),
        cuda=supported,
        driver=_driver() or f"CUDA {supported}",
    )


def extra_for(device: str, gpu: Gpu | None, jetson: Jetson | None) -> str:
    """Return the extra of dossr with the packages of a device on a machine, such as ``cuda``.

    On a Jetson TensorRT comes with JetPack, and no other GPU device works: all lead to its extra. A
    driver for CUDA 12 needs TensorRT's wheels for it. ``auto`` needs what every machine can run: ``cpu``.
    """
    device = "cpu" if device == "auto" else device.partition(":")[0]
    if jetson and device not in ("cpu", "openvino"):
        return "jetpack6" if jetson.jetpack.startswith("6") else "jetpack7"
    if device != "tensorrt":
        return device
    is_older = gpu is not None and int(gpu.cuda.split(".")[0]) < _CUDA
    return "tensorrt-cu12" if is_older else device


def find_extra(device: str) -> str:
    """Return the extra of dossr with the packages of a device on this machine."""
    try:
        gpu = find_gpu()
    except GpuError:
        gpu = None
    return extra_for(device, gpu, find_jetson())


def find_jetson() -> Jetson | None:
    """Return the Jetson that this machine is, or None."""
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
    """Return the major JetPack version for ``/etc/nv_tegra_release``, or 'unknown'."""
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
        raise GpuError(f"the NVIDIA driver fails: {function.__name__} returned CUDA error {code}")


def _driver() -> str:
    """Return the driver's version from the kernel or nvidia-smi; empty if unknown."""
    found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", _text(Path("/proc/driver/nvidia/version")))
    if found:
        return found[1]
    lines = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    return lines[0] if lines else ""


def _meminfo(name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+)", _text(Path("/proc/meminfo")), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _memory_groups() -> Iterator[tuple[int, int, int]]:
    """Yield limit, use and droppable cache of this process's control group and of those above it."""
    membership = _text(Path("/proc/self/cgroup"))
    for pattern, root, *names in _CGROUP_VERSIONS:
        if found := re.search(pattern, membership, re.MULTILINE):
            own = root / found[1].strip("/")
            for folder in (own, *own.parents):
                limit, used = (_number(folder / name) for name in names[:2])
                if folder.is_relative_to(root) and limit is not None and used is not None:
                    cached = re.search(names[2], _text(folder / "memory.stat"), re.MULTILINE)
                    yield limit, used, int(cached[1]) if cached else 0


def _cgroup_free() -> int | None:
    """Return the bytes left in the fullest control group."""
    left = (max(limit - used + cached, 1) for limit, used, cached in _memory_groups())
    return min(left, default=None)


def _address_space_left() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    used = re.search(r"^VmSize:\s*(\d+)", _text(Path("/proc/self/status")), re.MULTILINE)
    return max(limit - (int(used[1]) * 1024 if used else 0), 1)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None  # it may be "max"


def _smallest(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size), default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _output(program: str, *arguments: str) -> str:
    """Return what a system tool prints; empty if it is missing, fails or does not end."""
    if not shutil.which(program):
        return ""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
