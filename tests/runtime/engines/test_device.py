"""The pipeline on arrays that are not NumPy's."""

import inspect
import json
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from dossr.runtime import Pipeline, load_pipeline
from dossr.runtime.bundle import open_bundle
from dossr.runtime.engines.device import Host
from dossr.solvers import dos_sde_coefficients, predict_x0, released_schedule, step

CUPY = json.loads((Path(__file__).parent / "cuda" / "cupy_functions.json").read_text())
"""The parameters of the functions that CuPy has under NumPy's names, recorded from CuPy itself."""


class Far(NDArrayOperatorsMixin):
    """An array of another library, like CuPy's: NumPy's functions dispatch to it.

    It does not convert to a NumPy array implicitly, and operations with NumPy arrays fail, as do functions and
    parameters that CuPy does not have.
    """

    def __init__(self, near):
        self.near = near

    def __array__(self, *args, **kwargs):
        raise TypeError("a far array is copied to the host by download only")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return self._call(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        taken = CUPY[function.__name__].split()
        if not kwargs.keys() <= set(taken) and not any(name.startswith("**") for name in taken):
            raise TypeError(f"CuPy's {function.__name__} takes {taken}, got {list(kwargs)}")
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


def test_the_record_is_cupys():
    cupy = pytest.importorskip("cupy")
    if cupy.__version__ != CUPY["__version__"]:
        pytest.skip(f"the record is of CuPy {CUPY['__version__']}")
    for name, recorded in CUPY.items():
        if name != "__version__":
            found = inspect.signature(getattr(cupy, name)).parameters.values()
            stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
            assert recorded == " ".join(stars.get(p.kind, "") + p.name for p in found), name


class FarEngine:
    """A network whose inputs and outputs are far arrays."""

    def __init__(self, engine):
        self._engine, self.inputs, self.outputs = engine, engine.inputs, engine.outputs

    def run(self, **inputs):
        outputs = self._engine.run(**{name: array.near for name, array in inputs.items()})
        return {name: Far(array) for name, array in outputs.items()}


class FarDevice(Host):
    """Records uploads, downloads and active blocks."""

    def __init__(self):
        super().__init__()
        self.up, self.down, self.blocks = [], [], 0

    def open(self, bundle, stage):
        return FarEngine(super().open(bundle, stage))

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
    stages = {name: device.open(bundle, name) for name in bundle.manifest.stages}
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
    """The only other download is one flag: whether the image is finite."""
    device, pipeline = far
    pipeline.upscale(_photo(20, 16), steps=5)
    assert device.up == [(np.uint8, (20, 16, 3)), (np.float32, (7, 1, 4, 16, 8))]
    assert device.down == [(bool, (1,)), (np.uint8, (80, 64, 3))]
    assert device.blocks == 2  # one to sample, one to decode


def test_tiles_stay_on_the_device(far, toy_bundle):
    """The only other uploads are the windows of each output, once for all steps."""
    device, pipeline = far
    photo = _photo(96, 70)
    here = load_pipeline(toy_bundle).upscale(photo, tile=64, batch=2)
    np.testing.assert_array_equal(pipeline.upscale(photo, tile=64, batch=2), here)
    windows = [shape for _, shape in device.up if len(shape) == 2]
    assert len(device.up) == 2 + len(windows)
    assert windows == [(2, 256)] * 2 + [(2, 32)] * 2 * 3 + [(2, 256)] * 2
    assert len(device.down) == 2


def test_an_observer_costs_no_copy_and_sees_the_devices_arrays(far):
    device, pipeline = far
    seen = []
    pipeline.upscale(_photo(16, 16), observe=lambda name, array: seen.append(array))
    assert all(isinstance(array, Far) for array in seen)
    assert len(device.down) == 2


def test_the_host_step_is_the_solvers_step():
    x, eps, x_lr, z, old = np.random.default_rng(0).standard_normal((5, 1, 4, 8, 8), np.float32)
    row = dos_sde_coefficients(released_schedule(5), 2)[-1]
    x0, following = Host().step(row, x, eps, x_lr, (old,), z)
    np.testing.assert_array_equal(x0, predict_x0(row, x, eps))
    np.testing.assert_array_equal(following, step(row, x, x_lr, (x0, old), z))


def test_events_divide_a_run_into_its_parts(far):
    """An observer records events without waiting; the parts add up to the total."""
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


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_package_that_is_missing_is_an_error_of_the_start_with_low_memory_too(
    toy_bundle, no_onnxruntime, monkeypatch, device
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="onnxruntime"):
        load_pipeline(toy_bundle, device, low_memory=True)
