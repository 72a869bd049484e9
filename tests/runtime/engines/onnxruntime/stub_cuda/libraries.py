"""Compiles CUDA libraries that compute nothing, for the real onnxruntime-gpu on a machine without a GPU.

ONNX Runtime then opens sessions of its CUDA provider: which nodes it takes, what its optimiser makes of
a graph, and whether it may record a CUDA graph is real; numbers and times mean nothing.
"""

import os
import re
import subprocess
from pathlib import Path

GPU_BUILD = Path(__file__).parents[5] / ".onnxruntime-gpu"
"""Where ``make test`` puts onnxruntime-gpu, which cannot be installed beside onnxruntime."""

PROVIDER = GPU_BUILD / "onnxruntime/capi/libonnxruntime_providers_cuda.so"
_CALLS = Path(__file__).with_name("cuda_calls.c")
_OPENED_BY_NAME = ("libcudnn.so.9",)
_NEEDED = re.compile(r"Shared library: \[(libcu\S+)\]")


def environment(stubs: Path) -> dict[str, str]:
    """Return the environment of a process whose onnxruntime is the GPU build over the stubs."""
    paths = [str(GPU_BUILD), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LD_LIBRARY_PATH": str(stubs)}


def compile_stubs(provider: Path, folder: Path) -> None:
    """Write one library with every CUDA call that the provider's file needs, under all their names."""
    versioned, others = _wanted(provider)
    written = set(re.findall(r"^[\w *]*?\b(\w+)\(", _CALLS.read_text(), re.MULTILINE))
    names = sorted(others.union(*versioned.values()) - written)
    source, versions = folder / "stubs.c", folder / "stubs.map"
    source.write_text(_CALLS.read_text() + "\n".join(map(_stub, names)) + "\n")
    versions.write_text(
        "".join(
            f"{name} {{ global: {'; '.join(sorted(calls))}; }};\n"
            for name, calls in versioned.items()
        )
    )
    library = folder / "stubs.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-w", "-O1", source, f"-Wl,--version-script={versions}", "-o", library],
        check=True,
    )  # fmt: skip
    for name in (*_NEEDED.findall(_output("readelf", "-d", provider)), *_OPENED_BY_NAME):
        (folder / name).symlink_to(library.name)


def _wanted(provider: Path) -> tuple[dict[str, set[str]], set[str]]:
    """Return the calls by the library whose version they carry, and those without a version."""
    versioned: dict[str, set[str]] = {}
    others = {name.decode() for name in re.findall(rb"\bcudnn[A-Z]\w+", provider.read_bytes())}
    others |= {"cuInit", "cuDriverGetVersion", "cuGetProcAddress_v2"}
    for line in _output("nm", "-D", "--undefined-only", provider).splitlines():
        name, _, version = line.split()[-1].partition("@")
        if version.startswith("libcu"):
            versioned.setdefault(version, set()).add(name)
        elif not version and re.match(r"cu[A-Z]|cu[a-z]+[A-Z]", name):
            others.add(name)
    return versioned, others


def _stub(name: str) -> str:
    """Return a function that succeeds; one that creates something gives memory for it."""
    if "Create" in name:
        return f"int {name}(void **result) {{ if (result) *result = block(64); return 0; }}"
    if name.endswith(("ErrorString", "StatusString", "ErrorName", "StatusName")):
        return f'const char *{name}(void) {{ return "stub"; }}'
    if name == "cudnnBackendGetAttribute":
        return f"int {name}(void *d, int a, int t, long n, long *count, void *v) {{ if (count) *count = 0; return 0; }}"
    return f"int {name}(void) {{ return 0; }}"


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
