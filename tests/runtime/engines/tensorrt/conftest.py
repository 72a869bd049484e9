"""A fake TensorRT that has the recorded names only, and GPU memory made of NumPy arrays."""

import ctypes
import importlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dossr.runtime.hardware import Gpu

STUB = Path(__file__).parent / "stub"
RECORDED = {r["version"]: r["api"] for r in json.loads((STUB / "recorded.json").read_text())}


def _fits(signatures, count):
    return any(
        sum(not name.endswith("=") for name in names) <= count <= len(names) for names in signatures
    )


class Fake:
    """A TensorRT object with the recorded names only; records calls and answers from a table."""

    def __init__(self, kind, world):
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_world", world)

    def __getattr__(self, name):
        kind, world = self._kind, self._world
        found = world.api[f"{kind}.{name}"]  # a KeyError is a name that nobody recorded
        if found is None:
            raise AttributeError(f"'{kind}' has no '{name}' in this version")
        if found == "property":
            return world.answers[name]

        def call(*arguments):
            world.calls.append((f"{kind}.{name}", arguments))
            assert _fits(found, len(arguments)), (kind, name, arguments)
            answer = world.answers.get(name)
            return answer(*arguments) if callable(answer) else answer

        return call

    def __setattr__(self, name, value):
        assert self._world.api[f"{self._kind}.{name}"] == "property"
        self._world.calls.append((f"{self._kind}.{name}=", (value,)))


class World:
    """A fake of one version of the module ``tensorrt``, and the calls to it."""

    LAYERS = ({"LayerType": "conv", "Inputs": [{"Format/Datatype": "Half"}], "Outputs": []},)

    def __init__(self, version):
        self.api, self.calls = RECORDED[version], []
        self.shapes, self.addresses = {}, {}
        self.answers = {
            "create_network": lambda flags: Fake("INetworkDefinition", self),
            "create_builder_config": lambda: Fake("IBuilderConfig", self),
            "create_optimization_profile": lambda: Fake("IOptimizationProfile", self),
            "create_timing_cache": lambda data: Fake("ITimingCache", self),
            "get_timing_cache": lambda: Fake("ITimingCache", self),
            "deserialize_cuda_engine": lambda data: self.opened(bytes(data)),
            "create_engine_inspector": lambda: Fake("EngineInspector", self),
            "create_execution_context": lambda strategy: Fake("IExecutionContext", self),
            "get_engine_information": lambda form: json.dumps({"Layers": self.LAYERS}),
            "get_layer": lambda index: Fake("IAttentionBoundaryLayer", self),
            "attention": Fake("IAttention", self),
            "build_serialized_network": lambda network, config: b"plan",
            "serialize": b"timings", "parse_from_file": True, "add_optimization_profile": 0,
            "set_timing_cache": True, "refit_from_file": True, "refit_cuda_engine": True,
            "set_input_shape": lambda name, shape: bool(self.shapes.update({name: shape}) or True),
            "set_tensor_address": lambda name, at: bool(self.addresses.update({name: at}) or True),
            "execute_async_v3": lambda stream: self.enlarge(),
            "num_layers": 1, "num_errors": 0, "num_io_tensors": 2, "device_memory_size_v2": 4096,
            "get_tensor_name": ("lr", "restored").__getitem__, "get_tensor_dtype": lambda name: "FLOAT",
            "get_tensor_shape": lambda name: self.enlarged(),
        }  # fmt: skip
        self.module = ModuleType("tensorrt")
        self.module.__version__ = version
        for path in self.api:
            owner, _, name = path.rpartition(".")
            if self.api[path] == "name" and owner and not hasattr(self.module, owner):
                setattr(self.module, owner, type(owner, (), {}))
            if self.api[path] == "name" and owner:
                setattr(getattr(self.module, owner), name, 0 if name == "STRONGLY_TYPED" else name)
        for kind in ("Builder", "Runtime", "OnnxParser", "Refitter", "OnnxParserRefitter"):
            setattr(self.module, kind, lambda *arguments, kind=kind: self.made(kind, arguments))
        for base in ("ILogger", "IProgressMonitor"):
            if not hasattr(self.module, base):
                setattr(self.module, base, type(base, (), {}))

    def made(self, kind, arguments):
        self.calls.append((kind, arguments))
        assert _fits(self.api[f"{kind}.__init__"], len(arguments))
        return Fake(kind, self)

    def opened(self, data):
        return Fake("ICudaEngine", self) if data == b"plan" else None

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
        """The toy restorer on this TensorRT, and the memory it runs in."""
        memory = self.memory()
        scratch = self.contexts.Scratch(memory)
        path = bundle / "restorer.onnx"
        return self.engines.TrtEngine(path, memory, scratch, options, **more), memory

    def memory(self):
        return Arrays()

    def order(self):
        return [name for name, _ in self.calls]


class Arrays:
    """GPU memory made of NumPy arrays; a captured graph calls the work again."""

    stream = 7

    def __init__(self):
        self.launches = 0

    def active(self):
        return nullcontext()

    def upload(self, array):
        return array

    def download(self, array):
        return array

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)

    def pointer(self, array):
        return array.ctypes.data

    def synchronize(self):
        pass

    def captured(self, work):
        def launch():
            self.launches += 1
            work()

        return launch


FILES = [
    f"dossr.runtime.engines.tensorrt.{name}" for name in ("plan", "build", "context", "engine")
]


@pytest.fixture(params=["10.3.0", "11.4.0.106"])
def world(request, monkeypatch):
    """A fake of each version of TensorRT; freshly imported files that use it are attributes."""
    world = World(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", world.module)
    for name in FILES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    world.plans, world.builds, world.contexts, world.engines = map(importlib.import_module, FILES)
    orin = Gpu("Orin", "8.7", 1 << 34, True, "12.6", "540.4")
    monkeypatch.setattr(world.builds, "find_gpu", lambda: orin)
    monkeypatch.setattr(world.builds, "find_jetson", lambda: None)
    yield world
    for name in FILES:
        sys.modules.pop(name, None)
