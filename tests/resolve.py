"""Resolve every extra of pyproject.toml for every machine for which it is meant.

    python tests/resolve.py    # or: make resolve; needs uv and a package index, reads metadata only

Prints the table of docs/devices.md. Exits with 1 if the page says otherwise, or if an extra holds two
packages that overwrite each other.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "devices.md"
PYTHONS = ("3.10", "3.12", "3.13")
X86 = {"Linux x86-64": "x86_64-manylinux_2_28", "Windows": "windows"}
ARM = {"Linux aarch64": "aarch64-manylinux_2_35"}  # JetPack 6 is Ubuntu 22.04, with glibc 2.35

EXTRAS: Mapping[str, Mapping[str, str]] = {
    "cpu": X86 | ARM,
    "openvino": X86 | ARM,
    "images": X86 | ARM,
    "ray": X86 | ARM,
    "cuda": X86,
    "tensorrt": X86,
    "tensorrt-cu12": X86,
    "tensorrt-rtx": X86,
    "jetpack6": ARM,
    "jetpack7": ARM,
    "export,cpu": X86,
    "export,cpu,tensorrt-rtx": X86,
    "bench,cpu": X86,
    "bench,cuda": X86,
    "docs": X86,
    "dev": X86,
}
"""What stands between the brackets of ``dossr[...]``, and the systems for which it is meant."""

OVERWRITE = (("onnxruntime", "onnxruntime-gpu"), ("cupy-cuda12x", "cupy-cuda13x"))
"""Packages with the same modules: at most one of each pair may be installed."""

STUBS = [
    f"tensorrt-{name}" for name in ("cu12", "cu12-libs", "cu13", "cu13-libs", "rtx", "rtx-cu13")
]
"""NVIDIA's source packages without code: they name others, or fetch a wheel from NVIDIA at install.
Every other package must have a wheel."""

Row = tuple[str, str, str]  # what is between the brackets, system, Python


def main() -> int:
    """Print the table and what is wrong; return the exit code."""
    rows = [(extra, system, py) for extra, on in EXTRAS.items() for system in on for py in PYTHONS]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(rows, pool.map(lambda row: resolve(*row), rows), strict=True))
    lines = list(table(found))
    sys.stdout.write("\n".join(lines) + "\n")
    page = set(PAGE.read_text().splitlines())
    wrong = [f"docs/devices.md lacks: {line}" for line in lines if line not in page]
    wrong += [
        f"{' and '.join(pair)} together: dossr[{extra}], {system}, Python {python}"
        for (extra, system, python), packages in found.items()
        for pair in OVERWRITE
        if packages.issuperset(pair)
    ]
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return bool(wrong)


def resolve(extra: str, system: str, python: str) -> set[str]:
    """Return the names of the packages; none if there is no solution of wheels."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"]
    command += ["--no-annotate", "--python-version", python]
    command += ["--python-platform", EXTRAS[extra][system], "--only-binary", ":all:"]
    for name in STUBS:
        command += ["--no-binary", name]
    for name in extra.split(","):
        command += ["--extra", name]
    done = subprocess.run([*command, ROOT / "pyproject.toml"], capture_output=True, text=True)
    if done.returncode and "No solution found" not in done.stderr:
        sys.exit(f"resolve: {done.stderr.strip()}")
    return {line.split("==")[0] for line in done.stdout.splitlines()}


def table(found: Mapping[Row, set[str]]) -> Iterator[str]:
    """Return the lines of a Markdown table."""
    yield f"| `dossr[...]` | system | {' | '.join(PYTHONS)} |"
    yield "|---|---|" + "---|" * len(PYTHONS)
    for extra, systems in EXTRAS.items():
        for system in systems:
            cells = ("yes" if found[extra, system, py] else "no" for py in PYTHONS)
            yield f"| `{extra}` | {system} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
