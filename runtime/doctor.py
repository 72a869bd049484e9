"""``dossr-doctor``: report the machine, which ``--device`` works on it, and how to fix the others.

Each device runs the demo model in its own process, with the code that dossr-run uses, and must give
its golden vectors. A library that crashes or hangs then becomes a line of the report.
"""

import json
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from .. import __version__
from .bundle import DEMO, open_bundle
from .engines.device import DEVICES, OPENVINO
from .engines.precision import AUTO, FP32
from .engines.tensorrt.support import refusal
from .hardware import Gpu, GpuError, Jetson, extra_for, find_gpu, find_jetson, package_versions
from .launch import python_command
from .terminal import Command, log

_TIMEOUT = 600  # seconds per device: TensorRT builds the demo's engines
_PACKAGES = r"(numpy$|onnxruntime|openvino$|cupy|tensorrt|polygraphy|nvidia-cu|torch$)"


@dataclass(frozen=True)
class DeviceReport:
    """Whether a device works."""

    works: bool
    reason: str = ""
    """Why it does not work; empty if it works."""

    advice: str = ""
    """How to make it work."""

    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Relative errors of the demo model against torch, by stage and output."""


@dataclass(frozen=True)
class Report:
    """Everything that dossr-doctor reports."""

    dossr: str
    python: str
    system: str
    gpu: Gpu | None
    gpu_problem: str
    """Why no GPU can be used; empty if one can."""

    jetson: Jetson | None
    packages: Mapping[str, str]
    """Versions of the relevant packages, by name."""

    providers: Sequence[str]
    """ONNX Runtime's execution providers."""

    openvino: Mapping[str, Any]
    """OpenVINO's devices, the processor and what it computes; empty if it does not start."""

    devices: Mapping[str, DeviceReport]
    notes: Sequence[str]
    """Conflicts, one a line."""


@click.command("dossr-doctor", cls=Command)
@click.option("--device", "devices", type=click.Choice(DEVICES), multiple=True,
              help="Try this device only, and exit with 1 if it does not work, as health checks want; may be "
              "repeated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
@click.version_option(__version__, prog_name="dossr-doctor")
def main(devices: tuple[str, ...], as_json: bool) -> int:
    """Report the machine, which --device works on it, and how to fix the others.

    Exit code: 0 the report is complete, whatever it contains; 1 a device of --device does not work;
    2 wrong use.
    """
    report = examine(devices)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=1))
    else:
        click.echo("\n".join(lines(report)))
    return int(any(not report.devices[name].works for name in devices))


def examine(only: Sequence[str] = ()) -> Report:
    """Examine this machine. Takes a few seconds, and minutes where TensorRT builds engines.

    ``only``: the devices to try; none: all, and the GPUs and NPUs that OpenVINO finds.
    """
    gpu, problem = None, ""
    try:
        gpu = find_gpu()
    except GpuError as error:
        problem = str(error)
    jetson = find_jetson()
    packages = package_versions(_PACKAGES)
    found: dict[str, dict[str, Any]] = {}
    devices = list(only) or [name for name in DEVICES if ":" not in name]
    while devices:  # one after the other: builders measure kernels
        device = devices.pop(0)
        log(f"trying --device {device}")
        found[device] = _try(device)
        if device == "openvino" and not only:
            devices[:0] = _other_plugins(found[device])
    return Report(
        dossr=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        gpu=gpu,
        gpu_problem=problem,
        jetson=jetson,
        packages=packages,
        providers=found.get("cpu", {}).get("providers", []),
        openvino=found.get("openvino", {}).get("openvino", {}),
        devices={
            name: _report(name, found[name], problem, extra_for(name, gpu, jetson))
            for name in found
        },
        notes=mismatches(packages, gpu, jetson),
    )


def lines(report: Report) -> list[str]:
    """Return the report as text."""
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
        text.append(f"ONNX Runtime providers: {', '.join(report.providers)}")
    if report.openvino:
        text.append("OpenVINO: " + "; ".join(f"{k} {v}" for k, v in report.openvino.items()))
    text.append("")
    for name, device in report.devices.items():
        worst = max((e for stage in device.errors.values() for e in stage.values()), default=0.0)
        works = f"works: the demo model is within {worst:.0e} of torch"
        text.append(f"--device {name:<12}  {works if device.works else 'does not work'}")
        text += [f"    why:   {device.reason}"] if device.reason else []
        text += [f"    to do: {device.advice}"] if device.advice else []
    return text + [f"\nnote: {note}" for note in report.notes]


def mismatches(packages: Mapping[str, str], gpu: Gpu | None, jetson: Jetson | None) -> list[str]:
    """Return conflicts among the installed packages, the GPU and the Jetson, one a line."""
    return [
        *_duplicate_builds(packages),
        *_cuda_conflicts(packages, gpu),
        *_tensorrt_conflicts(packages, jetson),
        *_power_mode(jetson),
    ]


def _duplicate_builds(packages: Mapping[str, str]) -> Iterator[str]:
    for name in ("onnxruntime", "cupy"):
        builds = [p for p in packages if re.fullmatch(rf"{name}(-(gpu|cuda\d+x|rocm.*))?", p)]
        if len(builds) > 1:
            yield (
                f"{' and '.join(builds)} overwrite each other; pip uninstall {' '.join(builds)}, "
                "then install the one that you want"
            )


def _cuda_conflicts(packages: Mapping[str, str], gpu: Gpu | None) -> Iterator[str]:
    needed = {p: int(m[1]) for p in packages if (m := re.search(r"^(?:cupy|tensorrt(?:-rtx)?)-cu(?:da)?(\d+)", p))}  # fmt: skip
    if gpu:
        supported = int(gpu.cuda.split(".")[0])
        for package, major in needed.items():
            if major > supported:
                yield (
                    f"{package} needs a driver for CUDA {major}, and driver {gpu.driver} supports "
                    f"CUDA {gpu.cuda}; update the driver, or install the package for CUDA {supported}"
                )
    cupy, tensorrt = (
        {major for package, major in needed.items() if package.startswith(name)}
        for name in ("cupy", "tensorrt")
    )
    if cupy and tensorrt and cupy != tensorrt:
        yield (
            f"CuPy is for CUDA {_listed(cupy)} and TensorRT for CUDA {_listed(tensorrt)}; "
            "install both for one CUDA version"
        )


def _tensorrt_conflicts(packages: Mapping[str, str], jetson: Jetson | None) -> Iterator[str]:
    versions = {v for p, v in packages.items() if re.fullmatch(r"tensorrt(-cu\d+)?(-bindings|-libs)?", p)}  # fmt: skip
    if len(versions) > 1:
        yield (
            f"TensorRT's packages have the versions {', '.join(sorted(versions))}; install one version"
        )
    version = _tensorrt_version(packages)
    refused = refusal(version, jetson.jetpack if jetson else None) if version else None
    if refused:
        yield refused


def _power_mode(jetson: Jetson | None) -> Iterator[str]:
    if jetson and not re.match(r"MAXN|unknown", jetson.power_mode):
        yield (
            f"the power mode is {jetson.power_mode}: 'sudo nvpmodel -p --verbose' lists the modes, "
            "MAXN is the fastest; state the mode with every figure"
        )


def probe(name: str) -> None:
    """Run the demo model on a device and print the outcome as JSON; called by ``examine``.

    Every stage must give its golden vectors. TensorRT builds the engines in a temporary folder.
    """
    from .engines.auto import check_device
    from .engines.device import load_device

    result: dict[str, Any] = {}
    try:
        is_openvino = name in OPENVINO
        device = load_device(name, precision=FP32 if is_openvino else AUTO)
        if name == "cpu":
            from .engines.onnxruntime.session import providers

            result["providers"] = providers()
        if is_openvino:
            from .engines.openvino.core import facts

            result["openvino"] = facts()
        with tempfile.TemporaryDirectory(prefix="dossr-doctor-") as folder:
            demo = Path(shutil.copytree(DEMO, Path(folder) / "demo"))
            result["errors"] = check_device(device, open_bundle(demo))
    except ModuleNotFoundError as error:
        result["missing"] = error.name or str(error)
    except Exception as error:  # any exception means that the device does not work
        result["error"] = " ".join(str(error).split()) or type(error).__name__
    print(json.dumps(result))  # noqa: T201  # read by the parent process


def _other_plugins(found: Mapping[str, Any]) -> list[str]:
    """Return the devices of OpenVINO's GPUs and NPUs that it finds."""
    kinds = re.findall(r"GPU|NPU", str(found.get("openvino", {}).get("devices", "")))
    return [f"openvino:{kind}" for kind in dict.fromkeys(kinds)]


def _try(name: str) -> dict[str, Any]:
    """Return the output of ``probe`` in a new process."""
    program = f"from dossr.runtime.doctor import probe; probe({name!r})"
    try:
        done = subprocess.run(
            python_command(program), capture_output=True, text=True, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return {"error": f"the demo model does not run within {_TIMEOUT} seconds"}
    except OSError as error:
        return {"error": f"Python does not start: {error}"}
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else "loading its libraries ends the process"}
    return result


def _report(name: str, found: Mapping[str, Any], gpu_problem: str, extra: str) -> DeviceReport:
    missing = found.get("missing", "")
    reason = f"{missing} is not installed" if missing else str(found.get("error", ""))
    advice = f"pip install 'dossr[{extra}]'" if missing else ""
    if name != "cpu" and name not in OPENVINO and gpu_problem:
        reason = f"{gpu_problem}; {reason}" if missing else gpu_problem
        advice = "; ".join(filter(None, ["install NVIDIA's driver if there is a GPU", advice]))
    return DeviceReport(not reason, reason, advice, found.get("errors", {}))


def _tensorrt_version(packages: Mapping[str, str]) -> str:
    """Return the version of TensorRT's Python packages; empty if none is installed."""
    return next(
        (v for p, v in packages.items() if re.match(r"tensorrt(-cu\d+)?(-bindings)?$", p)), ""
    )


def _listed(numbers: set[int]) -> str:
    return " and ".join(str(number) for number in sorted(numbers))


if __name__ == "__main__":
    main()
