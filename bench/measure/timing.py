"""Time a network, a whole image, the loop alone, and image files, in the current process.

Times are wall-clock seconds. The first call after loading is cold. Warm-up calls follow and are
dropped, then the repetitions. Weights are synthetic and inputs random: latency depends on neither.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...runtime.images.reader import read_image
from ...runtime.images.writer import write_image
from ...runtime.tensors import SCALE
from ..systems.system import Input, Network, Noise, System
from .backends import Backend, Runner, TorchBackend
from .calls import ImageTime, NetworkTime, Tick
from .contenders import lr_image
from .events import TimedCalls
from .memory import process_peak


def time_network(
    network: Network, backend: Backend, warmup: int, repetitions: int, tick: Tick
) -> NetworkTime:
    """Load one network and run it on random inputs."""
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
    """Load all networks and run the whole procedure.

    The networks' times are medians over the repetitions' calls, without waiting for a GPU in between.
    """
    lr = _image(size).to(backend.device)
    with ExitStack() as stack, torch.inference_mode():
        runners, loads = _opened(system, backend, stack)

        def call(network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
            found = runners[network](**inputs)
            tick()
            return found

        def once() -> _Run:
            calls, noise = TimedCalls(call, backend.device), Noise(0, backend.device)
            began = time.perf_counter()
            system.upscale(calls, lr, noise)
            backend.synchronize()
            return _Run(time.perf_counter() - began, calls.seconds())

        cold = once()
        runs = [once() for _ in range(warmup + repetitions)][warmup:]
    seconds = [run.seconds for run in runs]
    return ImageTime(
        networks={
            name: NetworkTime(
                load,
                cold.calls_of(name)[0],
                statistics.median(taken for run in runs for taken in run.calls_of(name)),
            )
            for name, load in loads.items()
        },
        cold_s=cold.seconds,
        seconds=statistics.median(seconds),
        p90_s=float(np.percentile(seconds, 90)),
        loop_s=statistics.median(run.outside for run in runs),
        peak_bytes=peak_memory(backend),
    )


@dataclass(frozen=True)
class _Run:
    """The time of one image, and of each network call in it."""

    seconds: float
    calls: list[tuple[str, float]]

    @property
    def outside(self) -> float:
        """Seconds outside the networks."""
        return self.seconds - sum(taken for _, taken in self.calls)

    def calls_of(self, network: str) -> list[float]:
        """Return the seconds of each call of one network."""
        return [taken for name, taken in self.calls if name == network]


def _opened(
    system: System, backend: Backend, stack: ExitStack
) -> tuple[dict[str, Runner], dict[str, float]]:
    """Load all networks until the stack ends; return them with the seconds that each took."""
    runners, loads = {}, {}
    for network in system.networks:
        began = time.perf_counter()
        runners[network.name] = stack.enter_context(backend.open(network))
        backend.synchronize()
        loads[network.name] = time.perf_counter() - began
    return runners, loads


def time_loop(
    system: System,
    outputs: Mapping[str, Sequence[Sequence[int]]],
    device: torch.device,
    size: int,
    repetitions: int,
) -> float:
    """Return the median seconds of an image with no-op networks, which return zeros of these shapes."""
    zeros = {
        name: tuple(torch.zeros(tuple(shape), device=device) for shape in shapes)
        for name, shapes in outputs.items()
    }

    def call(network: str, /, **_inputs: Tensor) -> tuple[Tensor, ...]:
        return zeros[network]

    lr, seconds = _image(size).to(device), []
    with torch.inference_mode():
        for _ in range(1 + repetitions):
            began = time.perf_counter()
            system.upscale(call, lr, Noise(0, device)).cpu()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def time_files(size: int, repetitions: int = 5) -> float:
    """Return the median seconds of reading an LR image and writing its HR image, both PNG."""
    large, seconds = lr_image(SCALE * size), []
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        source, target = Path(folder) / "lr.png", Path(folder) / "hr.png"
        Image.fromarray(lr_image(size)).save(source)
        for _ in range(1 + repetitions):
            began = time.perf_counter()
            write_image(target, [large], read_image(source), [(SCALE * size, SCALE * size)])
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def peak_memory(backend: Backend) -> int | None:
    """Return the peak memory in bytes: of this process on a CPU, of torch on a GPU.

    None where networks are on a GPU in memory that torch does not allocate.
    """
    if backend.device.type == "cpu":
        return process_peak()
    if isinstance(backend, TorchBackend):
        return torch.cuda.max_memory_allocated(backend.device)
    return None


def _random(spec: Input) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if spec.tokens is None:
        return torch.rand(spec.shape, generator=generator)
    return torch.randint(spec.tokens, spec.shape, generator=generator)


def _image(size: int) -> Tensor:
    """Return the test image as float32 (1, 3, size, size) in [0, 1]."""
    return torch.from_numpy(lr_image(size)).permute(2, 0, 1)[None].contiguous() / 255.0
