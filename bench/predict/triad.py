"""The bandwidth of a processor's memory, the other limit of the roofline."""

import time

import torch

_NUMBERS = 1 << 25  # float32: arrays of 128 MiB, which no cache holds
_BYTES = 3 * 4  # two numbers are read and one is written


def time_triad(numbers: int = _NUMBERS, repetitions: int = 5) -> float:
    """Return bytes per second of ``a = b + s * c`` (McCalpin's triad) on all of torch's threads.

    The fastest of the repetitions counts. What the processor reads of ``a`` before it overwrites it is
    not counted.
    """
    b, c = torch.rand(numbers), torch.rand(numbers)
    a = torch.empty(numbers)
    seconds = []
    for _ in range(1 + repetitions):
        began = time.perf_counter()
        torch.add(b, c, alpha=3.0, out=a)
        seconds.append(time.perf_counter() - began)
    return _BYTES * numbers / min(seconds[1:])
