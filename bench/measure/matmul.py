"""The rate of a device's matrix product, the reference for the utilization of networks."""

import torch

from .backends import PRECISIONS, allow_tf32
from .events import between, record_event

_SIDES = {"cpu": (512, 2048, 4096), "cuda": (4096, 8192, 16384)}
_LAUNCHES = {"cpu": 1, "cuda": 10}  # between two events, so that the queue of a GPU is never empty
_LONGEST = 1.0  # seconds; larger products are skipped


def time_matmul(device: torch.device, precision: str, repetitions: int = 3) -> float:
    """Return 1e12 multiply-accumulates per second of the fastest of a few square matrix products."""
    allow_tf32(precision == "tf32")
    best, done, seconds = 0.0, 1, 0.0
    for side in _SIDES[device.type]:
        if seconds * (side / done) ** 3 > _LONGEST:
            break
        try:
            seconds = _product(side, device, precision, repetitions)
        except torch.OutOfMemoryError:  # a small GPU; smaller products suffice
            break
        best, done = max(best, side**3 / seconds / 1e12), side
    return best


def _product(side: int, device: torch.device, precision: str, repetitions: int) -> float:
    """Return the least seconds of one product over the repetitions, after one untimed run."""
    if precision == "int8":
        multiply, result = torch._int_mm, torch.empty(side, side, dtype=torch.int32, device=device)
        a, b = (
            torch.randint(-128, 128, (side, side), dtype=torch.int8, device=device) for _ in "ab"
        )
    else:
        dtype = PRECISIONS[precision]
        multiply, result = torch.mm, torch.empty(side, side, dtype=dtype, device=device)
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in "ab")
    launches, seconds = _LAUNCHES[device.type], []
    for _ in range(1 + repetitions):
        before = record_event(device)
        for _ in range(launches):
            multiply(a, b, out=result)
        after = record_event(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(between(before, after) / launches)
    return min(seconds[1:])
