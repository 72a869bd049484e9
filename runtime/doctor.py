"""``dossr-doctor``: what this machine has, what of ``--device`` works on it, and what to do.

It imports no backend itself: each device is tried in a process of its own, by the code that
dossr-run uses, so that a library that crashes or hangs is a line of the report.
"""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from typing import Any

import click

from .. import __version__
from .engines.device import DEVICES
from .engines.tensorrt.support import best_opset, refusal
from .hardware import Gpu, GpuError, Jetson, find_gpu, find_jetson
from .terminal import Command

_PATIENCE = 60  # seconds for one device: the first start of a GPU's libraries is slow
_KNOWN = re.compile(r"(numpy|onnxruntime|cupy|tensorrt|polygraphy|nvidia-cu|torch$)")
_INSTALL = {
    "cpu": "pip install 'dossr[cpu]'",
    "cuda": "pip install 'dossr[cuda]'",
    "tensorrt": "pip install 'dossr[tensorrt]'",
}


@dataclass(frozen=True)
class DeviceReport:
    """Whether ``--device`` may be this one."""

    works: bool
    reason: str = ""
    """Why it does not work."""

    advice: str = ""
    """What to do about it."""


@dataclass(frozen=True)
class Report:
    """What was found."""

    dossr: str
    python: str
    system: str
    gpu: Gpu | None
    gpu_problem: str
    """Why there is no GPU; empty where there is one."""

    jetson: Jetson | None
    packages: Mapping[str, str]
    """Versions of the installed packages that matter, by name."""

    providers: Sequence[str]
    """ONNX Runtime's execution providers."""

    opset: int | None
    """The ONNX operator set to export for the TensorRT that is here."""

    devices: Mapping[str, DeviceReport]
    notes: Sequence[str]
    """What does not fit together, a line each."""


@click.command("dossr-doctor", cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@click.version_option(__version__, prog_name="dossr-doctor")
def main(as_json: bool) -> None:
    """Say what this machine has, which --device works on it, and what to do where one does not.

    Exit code: 0 the report is complete, whatever it says; 2 wrong use.
    """
    report = examine()
    if as_json:
        click.echo(json.dumps(asdict(report), indent=1))
    else:
        click.echo("\n".join(lines(report)))


def examine() -> Report:
    """Look at this machine. A few seconds; longer where libraries of a GPU must start."""
    gpu, problem = None, ""
    try:
        gpu = find_gpu()
    except GpuError as error:
        problem = str(error)
    jetson = find_jetson()
    packages = installed()
    with ThreadPoolExecutor(len(DEVICES)) as pool:
        found = dict(zip(DEVICES, pool.map(_tried, DEVICES), strict=True))
    tensorrt = _tensorrt(packages)
    return Report(
        dossr=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        gpu=gpu,
        gpu_problem=problem,
        jetson=jetson,
        packages=packages,
        providers=found["cpu"].get("providers", []),
        opset=best_opset(tensorrt) if tensorrt else None,
        devices={name: _judged(name, found[name], problem) for name in DEVICES},
        notes=mismatches(packages, gpu, jetson),
    )


def lines(report: Report) -> list[str]:
    """The report for people."""
    gpu, jetson = report.gpu, report.jetson
    text = [f"dossr {report.dossr}, Python {report.python}, {report.system}"]
    if jetson:
        text.append(f"Jetson: {jetson.model}, JetPack {jetson.jetpack}, power {jetson.power_mode}")
    if gpu:
        kind = "shared memory" if gpu.is_integrated else "memory"
        text.append(
            f"GPU: {gpu.name}, compute capability {gpu.capability}, "
            f"{gpu.memory / 2**30:.1f} GiB {kind}, driver {gpu.driver} (CUDA {gpu.cuda})"
        )
    else:
        text.append(f"GPU: none; {report.gpu_problem}")
    text.append("Packages: " + (", ".join(" ".join(p) for p in report.packages.items()) or "none"))
    if report.providers:
        text.append(f"ONNX Runtime offers: {', '.join(report.providers)}")
    if report.opset:
        text.append(f"For this TensorRT: dossr-export --fp16 --opset {report.opset}")
    text.append("")
    for name, device in report.devices.items():
        text.append(f"--device {name:<8}  {'works' if device.works else 'does not work'}")
        text += [f"    why:   {device.reason}"] if device.reason else []
        text += [f"    to do: {device.advice}"] if device.advice else []
    return text + [f"\nnote: {note}" for note in report.notes]


def installed() -> dict[str, str]:
    """Versions of the installed packages that matter, by name, as their metadata says."""
    found = {}
    for distribution in distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if _KNOWN.match(name):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def mismatches(packages: Mapping[str, str], gpu: Gpu | None, jetson: Jetson | None) -> list[str]:
    """What of the installed packages does not fit together or here, a line each."""
    notes = []
    for name in ("onnxruntime", "cupy"):
        builds = [p for p in packages if re.fullmatch(rf"{name}(-(gpu|cuda\d+x|rocm.*))?", p)]
        if len(builds) > 1:
            notes.append(
                f"{' and '.join(builds)} overwrite each other; pip uninstall {' '.join(builds)}, "
                "then install the one that you want"
            )
    needed = {p: int(m[1]) for p in packages if (m := re.search(r"^(?:cupy|tensorrt)-cu(?:da)?(\d+)", p))}  # fmt: skip
    if gpu:
        served = int(gpu.cuda.split(".")[0])
        notes += [
            f"{package} needs a driver for CUDA {major}, and driver {gpu.driver} serves CUDA "
            f"{gpu.cuda}; update the driver, or install the package for CUDA {served}"
            for package, major in needed.items()
            if major > served
        ]
    cupy = {major for package, major in needed.items() if package.startswith("cupy")}
    tensorrt = {major for package, major in needed.items() if package.startswith("tensorrt")}
    if cupy and tensorrt and cupy != tensorrt:
        notes.append(
            f"CuPy is for CUDA {_listed(cupy)} and TensorRT for CUDA {_listed(tensorrt)}; "
            "install both for one CUDA"
        )
    versions = {v for p, v in packages.items() if re.fullmatch(r"tensorrt(-cu\d+)?(-bindings|-libs)?", p)}  # fmt: skip
    if len(versions) > 1:
        notes.append(
            f"TensorRT's packages are of versions {', '.join(sorted(versions))}; install one"
        )
    version = _tensorrt(packages)
    refused = refusal(version, jetson.jetpack if jetson else None) if version else None
    if refused:
        notes.append(refused)
    if jetson and not re.match(r"MAXN|unknown", jetson.power_mode):
        notes.append(
            f"the power mode is {jetson.power_mode}: 'sudo nvpmodel -p --verbose' lists the modes, "
            "MAXN is the fastest; name the mode beside every figure"
        )
    return notes


def probe(name: str) -> None:
    """Try a device in this process and print what came of it, as JSON; for ``examine`` only."""
    from .engines.device import load_device

    result: dict[str, Any] = {}
    try:
        load_device(name)
        if name == "cpu":
            from .engines.onnxruntime.session import (
                providers,  # with what the first network would import
            )

            result["providers"] = providers()
    except ModuleNotFoundError as error:
        result["missing"] = error.name or str(error)
    except Exception as error:  # whatever it is, it is why the device does not work
        result["error"] = " ".join(str(error).split()) or type(error).__name__
    print(json.dumps(result))  # noqa: T201  # read by the process that started this one


def _tried(name: str) -> dict[str, Any]:
    """What ``probe`` says in a process of its own."""
    program = f"from dossr.runtime.doctor import probe; probe({name!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=_PATIENCE
        )
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"its libraries do not start in {_PATIENCE} seconds"}
    except (OSError, ValueError, IndexError):
        said = done.stderr.strip().splitlines() if "done" in locals() else []
        return {"error": said[-1] if said else "its libraries end the process that loads them"}
    return result


def _judged(name: str, found: Mapping[str, Any], gpu_problem: str) -> DeviceReport:
    missing = found.get("missing", "")
    reason = f"{missing} is not installed" if missing else str(found.get("error", ""))
    advice = _INSTALL[name] if missing else ""
    if name != "cpu" and gpu_problem:
        reason = f"{gpu_problem}; {reason}" if missing else gpu_problem
        advice = "; ".join(filter(None, ["install NVIDIA's driver where there is a GPU", advice]))
    return DeviceReport(not reason, reason, advice)


def _tensorrt(packages: Mapping[str, str]) -> str:
    """The version of TensorRT's Python packages; empty where there are none."""
    return next(
        (v for p, v in packages.items() if re.match(r"tensorrt(-cu\d+)?(-bindings)?$", p)), ""
    )


def _listed(numbers: set[int]) -> str:
    return " and ".join(str(number) for number in sorted(numbers))


if __name__ == "__main__":
    main()
