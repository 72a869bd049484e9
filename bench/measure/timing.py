"""What is timed, in the process that runs it: a network, a whole image, the loop alone, files.

Times are wall-clock seconds. The first call after loading is cold; then come warm-up calls, which
are dropped, and the repetitions. Synthetic weights and random inputs: latency depends on neither.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ...runtime.images.files import read_image, write_image
from ...runtime.tensors import SCALE
from ..systems.system import Input, Network, Noise, System
from .backends import Backend
from .events import TimedCalls

Tick = Callable[[], None]
"""Called when a call of a network is done."""


@dataclass(frozen=True)
class NetworkTime:
    """One network."""

    load_s: float
    cold_s: float
    seconds: float
    """Median of the repetitions."""

    peak_bytes: int | None = None
    """Of the process on the CPU, of torch's allocator on a GPU; None where nobody knows."""


@dataclass(frozen=True)
class ImageTime:
    """One system, every step."""

    networks: dict[str, NetworkTime]
    cold_s: float
    """The first image."""

    seconds: float
    p90_s: float
    loop_s: float
    """Median of what an image spends outside of its networks."""

    peak_bytes: int | None


def time_network(
    network: Network, backend: Backend, warmup: int, repetitions: int, tick: Tick
) -> NetworkTime:
    """Load one network and call it on random inputs."""
    inputs = {spec.name: _random(spec).to(backend.device) for spec in network.inputs}
    began = time.perf_counter()
    with backend.open(network) as run, torch.inference_mode():
        backend.synchronize()
        load = time.perf_counter() - began

        def once() -> float:
            began = time.perf_counter()
            run(**inputs)
            backend.synchronize()
            tick()
            return time.perf_counter() - began

        cold = once()
        seconds = [once() for _ in range(warmup + repetitions)][warmup:]
    return NetworkTime(load, cold, statistics.median(seconds), peak_memory(backend))


def time_image(
    system: System, backend: Backend, size: int, warmup: int, repetitions: int, tick: Tick
) -> ImageTime:
    """Load all networks and run the whole procedure. The networks' times are those of the
    repetitions' calls, taken without waiting for a GPU between them."""
    lr = _image(size).to(backend.device)
    loads: dict[str, float] = {}
    with ExitStack() as stack, torch.inference_mode():
        runners = {}
        for network in system.networks:
            began = time.perf_counter()
            runners[network.name] = stack.enter_context(backend.open(network))
            backend.synchronize()
            loads[network.name] = time.perf_counter() - began

        def call(network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
            found = runners[network](**inputs)
            tick()
            return found

        def once() -> tuple[float, list[tuple[str, float]]]:
            calls, noise = TimedCalls(call, backend.device), Noise(0, backend.device)
            began = time.perf_counter()
            system.upscale(calls, lr, noise)
            backend.synchronize()
            return time.perf_counter() - began, calls.seconds()

        cold, cold_calls = once()
        images = [once() for _ in range(warmup + repetitions)][warmup:]
    seconds = [image for image, _ in images]
    outside = [image - sum(taken for _, taken in calls) for image, calls in images]
    networks = {
        name: NetworkTime(
            load,
            next(taken for at, taken in cold_calls if at == name),
            statistics.median(taken for _, calls in images for at, taken in calls if at == name),
        )
        for name, load in loads.items()
    }
    return ImageTime(
        networks=networks,
        cold_s=cold,
        seconds=statistics.median(seconds),
        p90_s=float(np.percentile(seconds, 90)),
        loop_s=statistics.median(outside),
        peak_bytes=peak_memory(backend),
    )


def time_loop(
    system: System,
    outputs: Mapping[str, Sequence[Sequence[int]]],
    device: torch.device,
    size: int,
    repetitions: int,
) -> float:
    """Median seconds of an image whose networks do nothing: they give zeros of these shapes."""
    zeros = {
        name: tuple(torch.zeros(tuple(shape), device=device) for shape in shapes)
        for name, shapes in outputs.items()
    }

    def call(network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
        return zeros[network]

    lr, seconds = _image(size).to(device), []
    with torch.inference_mode():
        for _ in range(1 + repetitions):
            began = time.perf_counter()
            system.upscale(call, lr, Noise(0, device)).cpu()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def time_files(size: int, repetitions: int = 5) -> float:
    """Median seconds of reading an LR image and writing its HR image, both PNG."""
    large, seconds = pixels(SCALE * size), []
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        source, target = Path(folder) / "lr.png", Path(folder) / "hr.png"
        Image.fromarray(pixels(size)).save(source)
        for _ in range(1 + repetitions):
            began = time.perf_counter()
            write_image(target, large, read_image(source), SCALE)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def peak_memory(backend: Backend) -> int | None:
    """Most bytes held so far: by this process on the CPU, by torch on a GPU, else unknown."""
    if backend.device.type == "cuda":
        return torch.cuda.max_memory_allocated(backend.device)
    return process_peak() if backend.runs_on_host else None


def process_peak() -> int | None:
    """Most bytes of memory that this process has held; None where the system does not say."""
    try:  # not getrusage, which takes in the peak of the process that started this one
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _random(spec: Input) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if spec.tokens is None:
        return torch.rand(spec.shape, generator=generator)
    return torch.randint(spec.tokens, spec.shape, generator=generator)


def _image(size: int) -> Tensor:
    """A ramp with noise, float32 (1, 3, size, size) in [0, 1]."""
    noise = 0.05 * Noise(0).normal(1, 3, size, size)
    return (torch.linspace(0.2, 0.8, size) + noise).clamp(0.0, 1.0)


def pixels(size: int) -> NDArray[np.uint8]:
    """The same as uint8 (size, size, 3)."""
    levels = (255.0 * _image(size)[0]).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
