"""The process that measures: a job as JSON on stdin, its result or error as JSON on stdout."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from ...runtime.engines.device import load_device
from ..systems.system import System
from .backends import Backend, open_backend, write_onnx
from .matmul import time_matmul
from .process import TICK, Job
from .timing import time_files, time_image, time_loop, time_network
from .variants import VARIANTS


def main() -> None:
    """Do the job that stdin names."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    job = Job(**json.load(sys.stdin))
    try:
        document = {"result": KINDS[job.kind](job)}
    except Exception as error:  # whatever a network or a backend raises is the row's reason
        document = {"error": _line(error)}
    with answer:
        json.dump(document, answer)


def _export(job: Job) -> float:
    """Seconds of building one network and writing it to its file."""
    began = time.perf_counter()
    write_onnx(_system(job).network(job.network), Path(job.files[job.network]))
    return time.perf_counter() - began


def _network(job: Job) -> dict[str, Any]:
    network = _system(job).network(job.network)
    return asdict(time_network(network, _backend(job), job.warmup, job.repetitions, _tick))


def _image(job: Job) -> dict[str, Any]:
    system = _system(job)
    return asdict(time_image(system, _backend(job), job.size, job.warmup, job.repetitions, _tick))


def _loop(job: Job) -> float:
    return time_loop(
        _system(job), job.outputs, _backend(job).device, job.size, max(job.repetitions, 3)
    )


def _probe(job: Job) -> None:
    """Raise where the runtime cannot use the device."""
    load_device(job.device)


def _machine(job: Job) -> dict[str, Any]:
    """Seconds of image files; 1e12 multiply-accumulates per second of matrix products."""
    device = torch.device("cpu" if job.device == "cpu" else "cuda")
    rates = {}
    if device.type == "cpu" or torch.cuda.is_available():
        for precision in job.precisions:
            rates[precision] = time_matmul(device, precision)
            _tick()
    return {"io_s": time_files(job.size), "tmac_s": rates}


def _reference(job: Job) -> dict[str, Any]:
    from .contenders import time_reference

    return time_reference(job, _tick)


def _bundle(job: Job) -> dict[str, Any]:
    from .contenders import time_bundle

    return time_bundle(job, _tick)


KINDS: dict[str, Callable[[Job], Any]] = {
    "export": _export,
    "network": _network,
    "image": _image,
    "loop": _loop,
    "machine": _machine,
    "probe": _probe,
    "reference": _reference,
    "bundle": _bundle,
}


def _system(job: Job) -> System:
    from ..systems import load_system

    return load_system(job.system, job.size, job.reduced)


def _backend(job: Job) -> Backend:
    files = {name: Path(path) for name, path in job.files.items()}
    return open_backend(VARIANTS[job.variant], job.device, files)


def _tick() -> None:
    click.echo(TICK, err=True)


def _line(error: Exception) -> str:
    """An exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:300] if lines else ""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
        return f"out of memory: {text or 'an allocation failed'}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
