"""ONNX Runtime on bound memory, on the CPU."""

import math
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dossr.runtime import EngineError
from dossr.runtime.engines.onnxruntime import io_binding
from dossr.runtime.engines.onnxruntime.io_binding import BoundEngine
from dossr.runtime.engines.onnxruntime.session import CPU, OrtEngine, read_signature
from dossr.runtime.tensors import TensorSpec


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
    return BoundEngine(path, read_signature(path, CPU), CPU, HostMemory())


@pytest.fixture
def opened(monkeypatch):
    """The sizes of every session that is opened."""
    sizes, real = [], io_binding.open_whole
    monkeypatch.setattr(
        io_binding, "open_whole", lambda *a: sizes.append(tuple(a[2].values())) or real(*a)
    )
    return sizes


def test_bound_memory_gives_what_a_plain_session_gives(toy_graph):
    """The first run of a size is plain, later runs use fixed buffers; sizes alternate."""
    rng = np.random.default_rng(0)
    path = toy_graph("denoiser")
    plain, bound = OrtEngine(path), _bound(path)
    kept = []
    for height, width in ((8, 8), (16, 8), (8, 8)):
        for turn in range(4):
            x, hint = rng.standard_normal((2, 1, 4, height, width), dtype=np.float32)
            inputs = {"x": x, "hint": hint, "time": np.full(1, 100 * turn, np.float32)}
            kept.append((bound.run(**inputs)["eps"], plain.run(**inputs)["eps"]))
    for result, expected in kept:  # later runs do not overwrite a result
        np.testing.assert_array_equal(result, expected)


def test_bound_inputs_need_not_be_contiguous(toy_graph):
    path = toy_graph("restorer")
    bound = _bound(path)
    lr = np.random.default_rng(0).random((1, 8, 9, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    expected = OrtEngine(path).run(lr=lr)["restored"]
    for _ in range(3):
        np.testing.assert_array_equal(bound.run(lr=lr)["restored"], expected)


def test_a_session_is_opened_for_each_new_size_and_kept_while_the_size_stays(toy_graph, opened):
    bound = _bound(toy_graph("restorer"))
    for height, width in ((4, 5), (4, 5), (4, 5), (5, 4), (5, 4), (4, 5)):
        restored = bound.run(lr=np.zeros((1, 3, height, width), np.float32))["restored"]
        assert restored.shape == (1, 3, 4 * height, 4 * width)
    assert opened == [(1, 4, 5), (1, 5, 4), (1, 4, 5)]


def test_a_network_without_variable_axes_is_opened_at_once(tmp_path, opened):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    bound = _bound(tmp_path / "net.onnx")
    assert opened == [()]
    np.testing.assert_allclose(bound.run(x=np.ones((2, 3), np.float32))["y"], np.e, rtol=1e-6)
    assert opened == [()]


def test_a_failure_on_bound_memory_is_one_line(toy_graph):
    bound = _bound(toy_graph("denoiser"))
    x, hint = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 4, 7, 8), np.float32)
    with pytest.raises(EngineError, match=r"^[^\n]*denoiser\.cpu\.onnx[^\n]+$"):
        bound.run(x=x, hint=hint, time=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="tensor 'x' must be float32"):
        bound.run(x=x.astype(float), hint=x, time=np.zeros(1, np.float32))


def test_an_axis_has_one_size(toy_graph):
    """The batch of every input is one axis; ONNX Runtime would take the size that it is told last."""
    bound = _bound(toy_graph("denoiser"))
    x, hint = np.zeros((1, 4, 8, 8), np.float32), np.zeros((2, 4, 8, 8), np.float32)
    with pytest.raises(ValueError, match=r"^axis 'batch' of tensor 'hint' must be 1 [^\n]+ got 2$"):
        bound.run(x=x, hint=hint, time=np.zeros(1, np.float32))


def test_a_file_that_differs_from_its_manifest_is_refused(toy_graph):
    path = toy_graph("restorer")
    inputs, _ = read_signature(path, CPU)
    outputs = {"image": TensorSpec("image", "float32", ("batch", 3, "h", "w"))}
    bound = BoundEngine(path, (inputs, outputs), CPU, HostMemory())
    with pytest.raises(EngineError, match=r"^the inputs/outputs of [^\n]+ do not match [^\n]+$"):
        bound.run(lr=np.zeros((1, 3, 4, 4), np.float32))
