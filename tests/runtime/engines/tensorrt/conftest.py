"""TensorRT-RTX's compiler for all that needs no GPU, and a fake of what needs one.

The fake has the names and signatures of TensorRT-RTX's bindings, or those recorded from TensorRT's.
"""

import ctypes
import importlib.util
import json
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx
import tensorrt_rtx_bindings

from dossr.runtime.bundle import DEMO, Bundle, GoldenCase, open_bundle
from dossr.runtime.engines.tensorrt.library import select_library
from dossr.runtime.hardware import Gpu

select_library("tensorrt-rtx")

import polygraphy.config  # noqa: E402  # Polygraphy reads the choice when it is imported

from dossr.runtime.engines.tensorrt import build as builds  # noqa: E402  # of that library
from dossr.runtime.engines.tensorrt import context as contexts  # noqa: E402
from dossr.runtime.engines.tensorrt import engine as engines  # noqa: E402
from dossr.runtime.engines.tensorrt.plan import LOG  # noqa: E402

STUB = Path(__file__).parent / "stub"
RECORDED = {r["version"]: r["api"] for r in json.loads((STUB / "recorded.json").read_text())}
TARGETS = ("tensorrt", "tensorrt-10.3")
ORIN = Gpu("Orin", "8.7", 1 << 34, True, "12.6", "540.4")
LAPTOP = Gpu("RTX 4070", "8.9", 8 << 30, False, "13.0", "580.65")

spec = importlib.util.spec_from_file_location("record", STUB / "record.py")
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)


class Fake:
    """A TensorRT object with the true names only; records calls and answers from a table."""

    def __init__(self, kind, world):
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_world", world)

    def __getattr__(self, name):
        kind, world = self._kind, self._world
        found = world.describe(f"{kind}.{name}")
        if found is None:
            raise AttributeError(f"'{kind}' has no '{name}' in this version")
        if found == "property":
            return world.answers[name]

        def call(*arguments):
            world.calls.append((f"{kind}.{name}", arguments))
            assert fits(found, len(arguments)), (kind, name, arguments)
            answer = world.answers.get(name)
            return answer(*arguments) if callable(answer) else answer

        return call

    def __setattr__(self, name, value):
        assert self._world.describe(f"{self._kind}.{name}") == "property"
        self._world.calls.append((f"{self._kind}.{name}=", (value,)))


def fits(signatures, count):
    return any(
        sum(not name.endswith("=") for name in names) <= count <= len(names) for names in signatures
    )


class World:
    """A machine with a GPU and one library: what its runtime and engines answer, and the calls."""

    LAYERS = ({"LayerType": "conv", "Inputs": [{"Format/Datatype": "Half"}], "Outputs": []},)

    def __init__(self, library, version, gpu):
        self.library, self.version, self.gpu = library, version, gpu
        self.calls, self.requests, self.built = [], [], []
        self.shapes, self.addresses = {}, {}
        self.is_rtx = library == "tensorrt-rtx"
        self.answers = {
            "get_engine_validity": lambda data: (tensorrt_rtx.EngineValidity.VALID, 0),
            "deserialize_cuda_engine": lambda data: self.opened(bytes(data)),
            "create_engine_inspector": lambda: Fake("EngineInspector", self),
            "create_runtime_config": lambda: Fake("IRuntimeConfig", self),
            "create_runtime_cache": lambda: Fake("IRuntimeCache", self),
            "serialize": b"kernels", "deserialize": True, "is_stream_capturable": True,
            "create_execution_context": lambda how: Fake("IExecutionContext", self),
            "get_engine_information": lambda form: json.dumps({"Layers": self.LAYERS}),
            "refit_from_file": True, "refit_cuda_engine": True,
            "set_input_shape": lambda name, shape: bool(self.shapes.update({name: shape}) or True),
            "set_tensor_address": lambda name, at: bool(self.addresses.update({name: at}) or True),
            "execute_async_v3": lambda stream: self.enlarge(),
            "num_layers": 1, "num_io_tensors": 2, "device_memory_size_v2": 4096,
            "get_tensor_name": ("lr", "restored").__getitem__,
            "get_tensor_dtype": lambda name: tensorrt_rtx.DataType.FLOAT,
            "get_tensor_shape": lambda name: self.enlarged(),
        }  # fmt: skip

    def describe(self, path):
        if self.is_rtx:
            return record.describe(path, tensorrt_rtx_bindings)  # the fake replaces some classes
        return RECORDED[self.version].get(path)

    def made(self, kind, arguments):
        self.calls.append((kind, arguments))
        assert fits(self.describe(f"{kind}.__init__"), len(arguments))
        return Fake(kind, self)

    def build(self, request, progress, on_gpu):
        """TensorRT-RTX's own bytes, ahead of time; TensorRT's compiler needs a GPU."""
        self.requests.append(request)
        data, notes = b"plan", {"seconds": 1.0}
        if self.is_rtx:
            ahead = replace(request, capabilities=(self.gpu.capability,))
            data, notes = builds.build_plan(ahead, progress, on_gpu)
        self.built.append(bytes(memoryview(data)))
        return data, notes

    def opened(self, data):
        return Fake("ICudaEngine", self) if data in self.built else None

    def enlarged(self):
        return (1, 3, *(4 * side for side in self.shapes["lr"][2:]))

    def enlarge(self):
        """What the toy bundle's restorer computes, at the addresses that were given."""
        lr = self.at("lr", self.shapes["lr"])
        self.at("restored", self.enlarged())[...] = lr.repeat(4, 2).repeat(4, 3)
        return True

    def at(self, name, shape):
        memory = (ctypes.c_float * int(np.prod(shape))).from_address(self.addresses[name])
        return np.ctypeslib.as_array(memory).reshape(shape)

    def engine(self, bundle, options=None, **more):
        """The toy restorer on this machine, and the memory it runs in."""
        memory = self.memory()
        scratch = contexts.Scratch(memory)
        return engines.TrtEngine(bundle, "restorer", memory, scratch, options, **more), memory

    def memory(self):
        return Arrays()

    def order(self):
        return [name for name, _ in self.calls]

    def failing(self, said, answer=None):
        """An answer of TensorRT after an error message."""

        def fail(*arguments):
            LOG.errors.append(said)
            return answer

        return fail


class Arrays:
    """GPU memory made of NumPy arrays; a captured graph calls the work again."""

    stream, index = 7, 0

    def __init__(self):
        self.launches, self.freed, self.entered = 0, 0, 0

    @contextmanager
    def active(self):
        self.entered += 1
        yield

    def upload(self, array):
        return array

    def download(self, array):
        return array

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)

    def block(self, size):
        return np.empty(size, np.uint8)

    def free_blocks(self):
        self.freed += 1

    def pointer(self, array):
        return array.ctypes.data

    def synchronize(self):
        pass

    def captured(self, work):
        def launch():
            self.launches += 1
            work()

        return launch


class ToyBundle(Bundle):
    """The toy bundle, with golden vectors of the restorer at 16 x 16 and at 32 x 16, batch 2."""

    def golden(self, stage):
        random = np.random.default_rng(0)
        images = [random.random(shape, np.float32) for shape in ((1, 3, 16, 16), (2, 3, 32, 16))]
        return [GoldenCase({"lr": lr}, {"restored": lr.repeat(4, 2).repeat(4, 3)}) for lr in images]


@pytest.fixture
def toy(fresh_bundle):
    """The toy bundle with its graphs for TensorRT as well."""
    path = fresh_bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for stage in manifest["stages"].values():
        stage["graphs"] = dict.fromkeys(("cpu", *TARGETS), stage["graphs"]["cpu"])
    path.write_text(json.dumps(manifest))
    return ToyBundle(fresh_bundle, open_bundle(fresh_bundle).manifest)


@pytest.fixture(
    params=[
        ("tensorrt", "10.3.0", ORIN),
        ("tensorrt", "11.4.0.106", ORIN),
        ("tensorrt-rtx", tensorrt_rtx.__version__, LAPTOP),
    ],
    ids=lambda library: "-".join(library[:2]),
)
def world(request, monkeypatch):
    """A machine with each library."""
    return make_world(monkeypatch, *request.param)


@pytest.fixture
def jetson(monkeypatch):
    """A machine with JetPack's TensorRT."""
    return make_world(monkeypatch, "tensorrt", "10.3.0", ORIN)


@pytest.fixture
def rtx(monkeypatch):
    """A machine with TensorRT-RTX."""
    return make_world(monkeypatch, "tensorrt-rtx", tensorrt_rtx.__version__, LAPTOP)


def make_world(monkeypatch, library, version, gpu):
    world = World(library, version, gpu)
    for kind in ("Runtime", "Refitter", "OnnxParserRefitter"):
        made = lambda *arguments, kind=kind: world.made(kind, arguments)  # noqa: E731
        monkeypatch.setattr(tensorrt_rtx, kind, made)
    if not world.is_rtx:
        monkeypatch.setattr(tensorrt_rtx, "__version__", version)
        monkeypatch.delattr(tensorrt_rtx, "IRuntimeCache")
        monkeypatch.setattr(polygraphy.config, "USE_TENSORRT_RTX", False)
    monkeypatch.setattr(engines, "build_plan", world.build)
    monkeypatch.setattr(builds, "find_gpu", lambda index: world.gpu)
    monkeypatch.setattr(builds, "find_jetson", lambda: None)
    return world


@pytest.fixture
def demo(tmp_path):
    """A copy of the built-in bundle, without engines."""
    shutil.copytree(DEMO, tmp_path / "demo", ignore=shutil.ignore_patterns("engines"))
    return open_bundle(tmp_path / "demo")


@pytest.fixture
def ctrl_c_at(heeding):
    """ctrl_c_at(step) returns a display that presses Ctrl-C at a step of a build, and what it saw."""

    def make(step):
        seen = []

        def show(share, left):
            seen.append(share)
            if len(seen) == step:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.5)  # until the main thread has cancelled the build

        return show, seen

    return make
