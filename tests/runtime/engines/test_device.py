"""The pipeline on arrays that are not NumPy's, ONNX Runtime on bound memory, and what CUDA refuses."""

import importlib.util
import math
import time
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import numpy as np
import onnx
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin
from onnx import TensorProto, helper

from dossr.runtime import EngineError, Pipeline, load_pipeline
from dossr.runtime.bundle import open_bundle
from dossr.runtime.cli import main
from dossr.runtime.engines.cuda.kernel import step_kernel, step_numbers
from dossr.runtime.engines.device import Host, load_device, load_engine
from dossr.runtime.engines.onnxruntime.io_binding import BoundEngine
from dossr.runtime.engines.onnxruntime.session import (
    CPU,
    CUDA,
    check_cuda,
    cuda_options,
    left_nodes,
    open_whole,
)
from dossr.solvers import dos_sde_coefficients, predict_x0, released_schedule, step


class Far(NDArrayOperatorsMixin):
    """An array of another library: NumPy's functions reach it, NumPy's arrays do not mix with it.

    As CuPy's: it becomes no NumPy array by itself, and an operation on it and a host array fails.
    """

    def __init__(self, near):
        self.near = near

    def __array__(self, *args, **kwargs):
        raise TypeError("a far array is copied to the host by download only")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return self._call(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return self._call(function, args, kwargs)

    def __getitem__(self, index):
        return Far(self.near[index])

    def __setitem__(self, index, value):
        self.near[index] = _near(value)

    def __getattr__(self, name):
        found = getattr(self.near, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._call(found, args, kwargs)

    @staticmethod
    def _call(function, args, kwargs):
        return _far(function(*map(_near, args), **{k: _near(v) for k, v in kwargs.items()}))


def _near(value):
    if isinstance(value, np.ndarray):
        raise TypeError("a host array met a far one")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_near, value))
    return value.near if isinstance(value, Far) else value


def _far(value):
    return Far(value) if isinstance(value, (np.ndarray, np.bool_)) else value


class FarEngine:
    """A network that takes and gives far arrays."""

    def __init__(self, engine):
        self._engine, self.inputs, self.outputs = engine, engine.inputs, engine.outputs

    def run(self, **inputs):
        outputs = self._engine.run(**{name: array.near for name, array in inputs.items()})
        return {name: Far(array) for name, array in outputs.items()}


class FarDevice(Host):
    """Counts what goes up and down, and knows whether it is active."""

    def __init__(self):
        self.up, self.down, self.blocks = [], [], 0

    def open(self, path):
        return FarEngine(super().open(path))

    @contextmanager
    def active(self):
        self.blocks += 1
        yield

    def upload(self, array):
        assert isinstance(array, np.ndarray)
        self.up.append((array.dtype, array.shape))
        return Far(array)

    def download(self, array):
        assert isinstance(array, Far)
        self.down.append((array.dtype, array.shape))
        return array.near


@pytest.fixture
def far(toy_bundle):
    """A device of far arrays and the toy pipeline on it."""
    device, bundle = FarDevice(), open_bundle(toy_bundle)
    stages = {name: device.open(bundle.path(name)) for name in bundle.manifest.stages}
    return device, Pipeline(stages, bundle.manifest, device)


def _photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("color_fix", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("size", [(16, 16), (20, 35), (3, 5)])
def test_another_librarys_arrays_give_the_same_image(far, toy_bundle, size, color_fix):
    _, pipeline = far
    here = load_pipeline(toy_bundle).upscale(_photo(*size), color_fix=color_fix)
    np.testing.assert_array_equal(pipeline.upscale(_photo(*size), color_fix=color_fix), here)


def test_the_image_and_the_noise_go_up_once_and_the_result_comes_down_once(far):
    """Beside the image one byte comes down: whether it is finite."""
    device, pipeline = far
    pipeline.upscale(_photo(20, 16), steps=5)
    assert device.up == [(np.float32, (7, 1, 4, 16, 8)), (np.uint8, (20, 16, 3))]
    assert device.down == [(bool, (1,)), (np.uint8, (80, 64, 3))]
    assert device.blocks == 1


def test_tiles_stay_on_the_device(far, toy_bundle):
    """What goes up more are the windows of each output's rows and columns, once for all steps."""
    device, pipeline = far
    photo = _photo(96, 70)
    here = load_pipeline(toy_bundle).upscale(photo, tile=64, batch=2)
    np.testing.assert_array_equal(pipeline.upscale(photo, tile=64, batch=2), here)
    windows = [shape for _, shape in device.up[2:]]
    assert windows == [(2, 256)] * 2 + [(2, 32)] * 2 * 3 + [(2, 256)] * 2
    assert len(device.down) == 2


def test_an_observer_costs_no_copy_and_sees_the_devices_arrays(far):
    device, pipeline = far
    seen = []
    pipeline.upscale(_photo(16, 16), observe=lambda name, array: seen.append(array))
    assert all(isinstance(array, Far) for array in seen)
    assert len(device.down) == 2


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_fused_step_is_the_solvers_step(order):
    """The kernel's statements, run by Python on NumPy arrays, against the solver, bit for bit."""
    rng = np.random.default_rng(order)
    x, eps, x_lr, z, *older = rng.standard_normal((6, 1, 4, 8, 8), dtype=np.float32)
    for row in dos_sde_coefficients(released_schedule(5), order):
        kernel = step_kernel(len(row.x0))
        names = dict(zip(kernel.arrays, (x, eps, x_lr, z, *older), strict=False))
        names |= dict(zip(kernel.coefficients, step_numbers(row), strict=True))
        exec(kernel.statements, names)
        x0 = predict_x0(row, x, eps)
        following = step(row, x, x_lr, (x0, *older), z)
        for name, expected in zip(kernel.results, (x0, following), strict=True):
            np.testing.assert_array_equal(names[name], expected)
            assert names[name].dtype == np.float32


def test_the_host_step_is_the_solvers_step():
    x, eps, x_lr, z, old = np.random.default_rng(0).standard_normal((5, 1, 4, 8, 8), np.float32)
    row = dos_sde_coefficients(released_schedule(5), 2)[-1]
    x0, following = Host().step(row, x, eps, x_lr, (old,), z)
    np.testing.assert_array_equal(x0, predict_x0(row, x, eps))
    np.testing.assert_array_equal(following, step(row, x, x_lr, (x0, old), z))


def test_marks_divide_a_run_into_its_parts(far):
    """Set by an observer, which waits for nothing; the parts add up to the whole."""
    device, pipeline = far
    events = [device.record_event()]
    pipeline.upscale(
        _photo(16, 16), observe=lambda name, array: events.append(device.record_event())
    )
    events.append(device.record_event())
    parts = [device.seconds(*pair) for pair in pairwise(events)]
    assert len(parts) == 3 + 5 * 3 + 4
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(device.seconds(events[0], events[-1]))
    assert len(device.down) == 2


class HostMemory:
    """Memory for BoundEngine on the CPU: the same bindings, addresses and buffers as on a GPU."""

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
    """First run plain, second and later ones through fixed buffers; shapes change in between."""
    rng = np.random.default_rng(0)
    plain, bound = (
        make(toy_bundle / "denoiser.onnx") for make in (lambda p: load_engine(p, "cpu"), _bound)
    )
    kept = []
    for turn in range(4):
        for height, width in ((8, 8), (16, 8)):
            x, hint = rng.standard_normal((2, 1, 4, height, width), dtype=np.float32)
            inputs = {"x": x, "hint": hint, "time": np.full(1, 100 * turn, np.float32)}
            kept.append((bound.run(**inputs)["eps"], plain.run(**inputs)["eps"]))
    for result, expected in kept:  # a result is not written over by the runs after it
        np.testing.assert_array_equal(result, expected)


def test_bound_inputs_need_not_be_contiguous(toy_bundle):
    bound = _bound(toy_bundle / "restorer.onnx")
    lr = np.random.default_rng(0).random((1, 8, 9, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    expected = load_engine(toy_bundle / "restorer.onnx", "cpu").run(lr=lr)["restored"]
    for _ in range(3):
        np.testing.assert_array_equal(bound.run(lr=lr)["restored"], expected)


def test_more_shapes_than_are_recorded_still_run(toy_bundle):
    bound = _bound(toy_bundle / "restorer.onnx")
    for side in [*range(1, 12)] * 2:
        assert (
            bound.run(lr=np.zeros((1, 3, side, side), np.float32))["restored"].shape[2] == 4 * side
        )


def test_a_failure_on_bound_memory_is_one_line(toy_bundle):
    bound = _bound(toy_bundle / "denoiser.onnx")
    x, hint = np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 4, 7, 8), np.float32)
    with pytest.raises(EngineError, match=r"^denoiser\.onnx failed: [^\n]+$"):
        bound.run(x=x, hint=hint, time=np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="tensor 'x' must be float32"):
        bound.run(x=x.astype(float), hint=x, time=np.zeros(1, np.float32))


def test_nodes_that_another_provider_took_are_named_and_shape_arithmetic_is_not(tmp_path):
    """Asked of a session on the CPU: everything in it went to a provider that is not CUDA."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="sides"),
        helper.make_node("Gather", ["shape", "first"], ["batch"], name="batch"),
        helper.make_node("Concat", ["batch", "rest"], ["flat"], axis=0, name="target"),
        helper.make_node("Reshape", ["x", "flat"], ["r"], name="flatten"),
        helper.make_node("Softmax", ["r"], ["s"], name="weigh"),
        helper.make_node("Erf", ["s"], ["y"]),
    ]
    weights = [
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("rest", TensorProto.INT64, [1], [-1]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [f"{n}0", f"{n}1"]) for n in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "net.onnx")
    session = open_whole(tmp_path / "net.onnx", CPU, {})
    assert left_nodes(session, CPU) == []
    assert sorted(left_nodes(session, CUDA)) == ["Erf", "Softmax weigh"]


def _missing():
    """Why --device cuda cannot run here; None where it can."""
    try:
        load_device("cuda")
        import cupy

        check_cuda(cupy.cuda.runtime.runtimeGetVersion() // 1000)
    except (ModuleNotFoundError, EngineError) as error:
        return str(error)
    return None


MISSING = _missing()
without_gpu = pytest.mark.skipif(MISSING is None, reason="a GPU is there")


def gpu(test):
    """A test that runs where --device cuda works."""
    reason = f"--device cuda does not run here: {MISSING}"
    return pytest.mark.gpu(pytest.mark.skipif(MISSING is not None, reason=reason)(test))


@without_gpu
def test_what_cuda_misses_is_told_in_one_line(toy_bundle, capsys, tmp_path):
    with pytest.raises((ModuleNotFoundError, EngineError), match=r"^[^\n]+$"):
        load_pipeline(toy_bundle, "cuda")
    image = tmp_path / "photo.png"
    from PIL import Image

    Image.fromarray(_photo(8, 8)).save(image)
    with pytest.raises(SystemExit) as stopped:
        main.main([str(image), "-o", str(tmp_path / "out.png"), "-b", str(toy_bundle),
                   "--device", "cuda"], prog_name="dossr-run")  # fmt: skip
    stderr = capsys.readouterr().err
    assert stopped.value.code == 2
    assert stderr.count("\n") == 1
    assert MISSING in stderr


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_cupy_that_is_not_installed_is_named_with_the_command_that_brings_it(toy_bundle, capsys):
    with pytest.raises(ModuleNotFoundError, match="cupy"):
        load_device("cuda")
    with pytest.raises(SystemExit):
        main.main([__file__, "-o", "x.png", "-b", str(toy_bundle), "--device", "cuda"])
    assert "pip install 'dossr[cuda]'" in capsys.readouterr().err


def test_an_onnxruntime_without_the_cuda_provider_is_named():
    import onnxruntime

    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has a CUDA provider")
    with pytest.raises(
        EngineError, match=r"^this onnxruntime [\d.]+ has no CUDA provider; pip [^\n]+$"
    ):
        check_cuda(13)


@pytest.mark.filterwarnings("ignore:Specified provider")  # ONNX Runtime's own remark
def test_a_session_that_fell_back_as_a_whole_is_refused(toy_bundle):
    if MISSING is None:
        pytest.skip("a GPU is there")
    with pytest.raises(EngineError, match=r"did not start CUDAExecutionProvider"):
        open_whole(toy_bundle / "decoder.onnx", CUDA, cuda_options(stream=1, device=0))


@gpu
@pytest.mark.parametrize("name", ["tiny_o1_s1_none", "tiny_o2_s3_adain", "tiny_o3_s5_wavelet"])
def test_the_references_images_on_a_gpu(bundles, golden, name):
    """In float32, TF32 off; the third time every network replays its graph."""
    data = np.load(golden / f"{name}.npz")
    pipeline = load_pipeline(bundles("separate"), "cuda")
    for _ in range(3):
        seen = _on_gpu(pipeline, data, name)
        for key, recorded in {"eps": "eps", "x0": "pred_x0", "latent": "final_latent",
                              "hint": "control_latent", "image": "image"}.items():  # fmt: skip
            expected = np.asarray(data[recorded], np.float64)
            error = np.linalg.norm(np.squeeze(seen[key] - expected)) / np.linalg.norm(expected)
            assert error <= 1e-3, (key, error)


@gpu
def test_half_precision_on_a_gpu_is_within_45_db(bundles, golden):
    data = np.load(golden / "tiny_o3_s5_wavelet.npz")
    images = [
        _on_gpu(load_pipeline(bundles("separate", fp16=fp16), "cuda"), data, "o3_s5_wavelet")[
            "image"
        ]
        for fp16 in (False, True)
    ]
    assert -10.0 * np.log10(np.mean((images[0] - images[1]) ** 2)) >= 45.0


@gpu
def test_tiles_on_a_gpu(bundles):
    """The image of the CPU's run in the same tiles, within two levels."""
    photo, settings = _photo(80, 100), {"steps": 2, "tile": 64, "batch": 2}
    here, there = (
        load_pipeline(bundles("separate"), device).upscale(photo, **settings).astype(int)
        for device in ("cpu", "cuda")
    )
    assert np.abs(here - there).max() <= 2


@gpu
def test_the_fused_kernel_on_a_gpu():
    device = load_device("cuda")
    arrays = np.random.default_rng(0).standard_normal((6, 1, 4, 64, 64), dtype=np.float32)
    x, eps, x_lr, z, *older = map(device.upload, arrays)
    row = dos_sde_coefficients(released_schedule(5), 3)[-1]
    with device.active():
        results = device.step(row, x, eps, x_lr, tuple(older), z)
    expected = Host().step(row, *arrays[:3], tuple(arrays[4:]), arrays[3])
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(device.download(result), wanted, atol=2e-6)


@gpu
def test_marks_on_a_gpu_see_its_work_and_do_not_wait_for_it():
    device = load_device("cuda")
    x = device.upload(np.ones((4096, 4096), np.float32))
    for _ in range(2):  # the first product loads its library
        with device.active():
            before, began = device.record_event(), time.perf_counter()
            for _ in range(50):
                x @ x
            after = device.record_event()
            told = time.perf_counter() - began
    assert device.seconds(before, after) > 2 * told
    assert device.seconds(before, before) == 0


def _on_gpu(pipeline, data, name):
    """Every intermediate of a recorded run, in NumPy; those of the steps stacked."""
    *_, order, _, color_fix = name.split("_")
    seen = {}
    pipeline.upscale(
        data["lr"],
        steps=len(data["x_t"]),
        order=int(order[1:]),
        color_fix=color_fix,
        noise=data["noise"],
        observe=lambda n, array: seen.setdefault(n, []).append(array.get()),
    )
    return {n: np.stack(arrays) for n, arrays in seen.items()}
