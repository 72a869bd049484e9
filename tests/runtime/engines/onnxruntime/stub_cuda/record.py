"""Runs a toy network through the runtime's CUDA sessions over the stubs.

Runs in a process whose onnxruntime is the GPU build: ``python record.py FILE``. Prints how many CUDA
graphs were made and launched, as JSON. The stubs' device memory is the host's, kernels compute nothing.
"""

import ctypes
import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path

import click
import numpy as np

from dossr.runtime.engines.onnxruntime.cuda_provider import check_cuda, cuda_provider
from dossr.runtime.engines.onnxruntime.io_binding import BoundEngine
from dossr.runtime.engines.onnxruntime.session import read_signature


class StubMemory:
    """The device memory of the stubs."""

    kind, index, active = "cuda", 0, nullcontext

    def empty(self, shape, dtype):
        return np.zeros(shape, dtype)

    def pointer(self, array):
        return array.ctypes.data

    def view(self, pointer, shape, dtype, owner):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype).reshape(shape)


def main() -> None:
    """Run one network at two sizes, four times each."""
    check_cuda(13, "90")
    provider = cuda_provider(stream=1, device=0, tf32=False)
    path = Path(sys.argv[1])
    engine = BoundEngine(path, read_signature(path, provider), provider, StubMemory())
    calls = ctypes.CDLL("libcudart.so.13")
    seen = []
    for height in (8, 16):
        x = np.zeros((1, 4, height, 8), np.float32)
        for _ in range(4):
            result = engine.run(x=x, hint=x, time=np.zeros(1, np.float32))["eps"]
            assert result.shape == x.shape
            seen.append((calls.stub_graphs_made(), calls.stub_graphs_launched()))
    click.echo(json.dumps(seen))


if __name__ == "__main__":
    main()
