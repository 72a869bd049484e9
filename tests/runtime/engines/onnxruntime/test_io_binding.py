"""ONNX Runtime on bound memory, on the CPU."""

import math
from contextlib import nullcontext

import numpy as np
import pytest

from dossr.runtime import EngineError
from dossr.runtime.engines.device import Host
from dossr.runtime.engines.onnxruntime.io_binding import BoundEngine
from dossr.runtime.engines.onnxruntime.session import (
    CPU,
)


class HostMemory:
    """CPU memory for BoundEngine, with the bindings, addresses and buffers of a GPU."""

    kind, index = "cpu", 0

    def active(self):
        return nullcontext()

    def empty(self, shape, dtype):
        return np.full(shape, 7, dtype)

    def pointer(self, array):
        return array.ctypes.data

    def view(self, pointer, shape, dtype, owner):
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = (np.ctypeslib.ctypes.c_char * size).from_address(pointer)
        buffer.owner = owner
        return np.frombuffer(buffer, dtype).reshape(shape)


def _bound(path):
    return BoundEngine(path, CPU, {}, HostMemory())


def test_bound_memory_gives_what_a_plain_session_gives(toy_bundle):
    """The first run is plain, later runs use fixed buffers; shapes alternate."""
    rng = np.random.default_rng(0)
    plain, bound = (
        make(toy_bundle / "denoiser.cpu.onnx") for make in (lambda p: Host().open_file(p), _bound)
    )
    kept = []
    for turn in range(4):
        for height, width in ((8, 8), (16, 8)):
            x, hint = rng.standard_normal((2, 1, 4, height, width), dtype=np.float32)
            inputs = {"x": x, "hint": hint, "time": np.full(1, 100 * turn, np.float32)}
            kept.append((bound.run(**inputs)["eps"], plain.run(**inputs)["eps"]))
    for result, expected in kept:  # later runs do not overwrite a result
        np.testing.assert_array_equal(result, expected)


def test_bound_inputs_need_not_be_contiguous(toy_bundle):
    bound = _bound(toy_bundle / "restorer.cpu.onnx")
    lr = np.random.default_rng(0).random((1, 8, 9, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    expected = Host().open_file(toy_bundle / "restorer.cpu.onnx").run(lr=lr)["restored"]
    for _ in range(3):
        np.testing.assert_array_equal(bound.run(lr=lr)["restored"], expected)


def test_more_shapes_than_are_recorded_still_run(toy_bundle):
    bound = _bound(toy_bundle / "restorer.cpu.onnx")
    for side in [*range(1, 12)] * 2:
        assert (
            bound.run(lr=np.zeros((1, 3, side, side), np.float32))["restored"].shape[2] == 4 * side
        )


def test_a_failure_on_bound_memory_is_one_line(toy_bundle):
    bound = _bound(toy_bundle / "denoiser.cpu.onnx")
    x, hint = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 4, 7, 8), np.float32)
    with pytest.raises(EngineError, match=r"^denoiser\.cpu\.onnx failed: [^\n]+$"):
        bound.run(x=x, hint=hint, time=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="tensor 'x' must be float32"):
        bound.run(x=x.astype(float), hint=x, time=np.zeros(1, np.float32))
