"""The process that measures: reads one call as JSON from stdin, writes its answer to stdout.

Imports what the call needs and no more, so that a bundle is measured without torch.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Raw

from .calls import (
    VARIANTS,
    Answer,
    AnyCall,
    ExportNetwork,
    ImageTime,
    MachineSpeed,
    MeasureMachine,
    NetworkTime,
    PipelineTime,
    ProbeRuntime,
    SystemCall,
    TimeBundle,
    TimeImage,
    TimeLoop,
    TimeNetwork,
    TimeReference,
)
from .process import TICK

if TYPE_CHECKING:
    from ..systems.system import System
    from .backends import Backend


def main() -> None:
    """Answer the call on stdin."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print to stdout too
    call = msgspec.json.decode(sys.stdin.buffer.read(), type=AnyCall)
    try:
        answer = Answer(result=Raw(msgspec.json.encode(FUNCTIONS[type(call)](call))))
    except Exception as error:  # the error of a network or backend becomes the row's reason
        answer = Answer(error=_line(error))
    with output:
        output.write(msgspec.json.encode(answer))


def _export_network(call: ExportNetwork) -> float:
    from ...runtime.bundle import Target
    from .backends import graph_precision, write_onnx

    began = time.perf_counter()
    variant = VARIANTS[call.variant]
    targets: dict[str, Target] = {"cpu": "cpu", "cuda": "cuda", "openvino": "openvino"}
    target, precision = targets[variant.engine(call.device)], graph_precision(variant)
    write_onnx(_system(call).network(call.network), target, precision, Path(call.file))
    return time.perf_counter() - began


def _time_network(call: TimeNetwork) -> NetworkTime:
    from .timing import time_network

    network = _system(call).network(call.network)
    return time_network(network, _backend(call), call.warmup, call.repetitions, _tick)


def _time_image(call: TimeImage) -> ImageTime:
    from .timing import time_image

    system, backend = _system(call), _backend(call)
    return time_image(system, backend, call.size, call.warmup, call.repetitions, _tick)


def _time_loop(call: TimeLoop) -> float:
    import torch

    from .timing import time_loop

    device = torch.device(call.device)
    return time_loop(_system(call), call.outputs, device, call.size, call.repetitions)


def _probe_runtime(call: ProbeRuntime) -> None:
    from ...runtime.engines.device import load_device
    from ...runtime.engines.precision import parse_precision

    load_device(call.device, precision=parse_precision(call.precision))


def _measure_machine(call: MeasureMachine) -> MachineSpeed:
    import torch

    from .matmul import time_matmul
    from .timing import time_files

    device = torch.device("cpu" if call.device == "cpu" else "cuda")
    rates = {}
    if device.type == "cpu" or torch.cuda.is_available():
        for precision in call.precisions:
            rates[precision] = time_matmul(device, precision)
            _tick()
    return MachineSpeed(time_files(call.size), rates)


def _time_reference(call: TimeReference) -> PipelineTime:
    from .reference import time_reference

    return time_reference(call, _advance)


def _time_bundle(call: TimeBundle) -> PipelineTime:
    from .contenders import time_bundle

    return time_bundle(call, _advance)


FUNCTIONS: dict[type, Callable[[Any], Any]] = {
    ExportNetwork: _export_network,
    TimeNetwork: _time_network,
    TimeImage: _time_image,
    TimeLoop: _time_loop,
    MeasureMachine: _measure_machine,
    ProbeRuntime: _probe_runtime,
    TimeReference: _time_reference,
    TimeBundle: _time_bundle,
}
"""The function that answers each call."""


def _system(call: SystemCall[Any]) -> "System":
    from ..systems import load_system

    return load_system(call.system, call.size, call.reduced)


def _backend(call: TimeNetwork | TimeImage) -> "Backend":
    from .backends import open_backend

    files = {name: Path(path) for name, path in call.files.items()}
    return open_backend(VARIANTS[call.variant], call.device, files)


def _tick() -> None:
    _advance(1)


def _advance(count: float) -> None:
    click.echo(f"{TICK} {count}", err=True)


def _line(error: Exception) -> str:
    """Return an exception as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0][:300] if lines else ""
    is_memory = (
        isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    )  # torch's
    if is_memory or "DefaultCPUAllocator" in text:
        return f"out of memory: {text or 'an allocation failed'}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    main()
