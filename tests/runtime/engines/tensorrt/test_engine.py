"""The TensorRT adapter: names and signatures against the published bindings, calls against a fake.

No test here computes anything with TensorRT: that needs a GPU.
"""

import ast
import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import dossr
from dossr.runtime.bundle import read_manifest
from dossr.runtime.engines.tensorrt.cache import refusals
from dossr.runtime.engines.tensorrt.profiles import BuildOptions
from dossr.runtime.engines.tensorrt.progress import BuildProgress
from dossr.runtime.errors import EngineError
from dossr.runtime.hardware import Gpu

STUB = Path(__file__).parent / "stub"
RECORDED = {r["version"]: r["api"] for r in json.loads((STUB / "recorded.json").read_text())}
NEWER = {"IAttention.decomposable", "IAttentionBoundaryLayer.attention"}  # not yet in 10.3
PACKAGES = {"10": "tensorrt_cu12_bindings", "11": "tensorrt_cu13_bindings"}

# What the adapter's variables are, so that its source tells which names it uses.
CLASSES = {
    "attention": "IAttention",
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "self._context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "limits": "IOptimizationProfile",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "refitter": "Refitter",
    "runtime": "Runtime",
    "weights": "OnnxParserRefitter",
    "config.get_timing_cache()": "ITimingCache",
    "parser.get_error(index)": "ParserError",
    "network.get_layer(index)": "IAttentionBoundaryLayer",
}


def _source():
    return ast.parse(
        (Path(dossr.__file__).parent / "runtime" / "engines" / "tensorrt" / "engine.py").read_text()
    )


def used():
    """Every TensorRT name in the adapter's source, with the number of arguments where it is called."""
    names = {}
    for node in ast.walk(_source()):
        if isinstance(node, ast.Attribute):
            names.setdefault(_path(node), set())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            path = _path(node.func)
            assert path is None or not node.keywords, f"{path}: keywords differ between versions"
            names.setdefault(path, set()).add(len(node.args))
            if ast.unparse(node.func).startswith("trt.") and path.count(".") == 0:
                names.setdefault(f"{path}.__init__", set()).add(len(node.args))
        if ast.unparse(node).startswith("getattr(network.get_layer"):
            names.setdefault("IAttentionBoundaryLayer.attention", set())
    for kind in ("FLOAT", "HALF", "INT64"):  # by _DTYPES
        names[f"DataType.{kind}"] = set()
    for method in ("log", "phase_start", "step_complete", "phase_finish"):
        names[f"{'ILogger' if method == 'log' else 'IProgressMonitor'}.{method}"] = set()
    names.pop(None)
    return {path: calls for path, calls in sorted(names.items()) if not path.startswith("_")}


def _path(node):
    text = ast.unparse(node)
    if text.startswith("trt."):
        return text.removeprefix("trt.")
    owner = ast.unparse(node.value)
    return f"{CLASSES[owner]}.{node.attr}" if owner in CLASSES else None


def _fits(signatures, count):
    return any(
        sum(not name.endswith("=") for name in names) <= count <= len(names) for names in signatures
    )


def test_the_source_names_what_it_uses():
    """The reading of the source is not blind."""
    names = used()
    assert len(names) > 60
    assert names["IExecutionContext.execute_async_v3"] == {1}
    assert names["OnnxParserRefitter.__init__"] == {2}
    assert names["Builder.build_serialized_network"] == {2}


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_every_name_and_signature_exists(version):
    api = RECORDED[version]
    for path, counts in used().items():
        if path in NEWER and version == "10.3.0":
            continue
        assert api.get(path) is not None, f"{path} is not in TensorRT {version}"
        for count in counts:
            # A base class made in a subclass is given itself: trt.ILogger.__init__(self).
            given = (
                count - 1 if path in ("ILogger.__init__", "IProgressMonitor.__init__") else count
            )
            if isinstance(api[path], list):
                assert _fits(api[path], given), f"{path} takes {api[path]}, not {count} arguments"


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_what_tensorrt_calls_has_its_parameters(version):
    classes = {node.name: node for node in _source().body if isinstance(node, ast.ClassDef)}
    for ours, theirs in (("Log", "ILogger"), ("Monitor", "IProgressMonitor")):
        for method in classes[ours].body:
            if isinstance(method, ast.FunctionDef) and method.name != "__init__":
                names = [argument.arg for argument in method.args.args[1:]]
                assert [names] == RECORDED[version][f"{theirs}.{method.name}"]


@pytest.fixture(scope="session", params=["10.3.0", "11.4.0.106"])
def bindings(request, tmp_path_factory):
    """A folder with the true bindings of a version and stub libraries; skips where none are to be had."""
    compiler = shutil.which("cc")
    if not (compiler and sys.platform == "linux" and sysconfig.get_platform() == "linux-x86_64"):
        pytest.skip("the bindings are taken for Linux on x86-64, with a C compiler")
    major = request.param.split(".")[0]
    folder = tmp_path_factory.mktemp(f"tensorrt-{major}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               "--dest", str(folder), f"{PACKAGES[major]}=={request.param}"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("pip does not answer in two minutes")
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"pip cannot fetch the bindings of {request.param}: {reason}")
    zipfile.ZipFile(wheels[0]).extractall(folder)
    (folder / "tensorrt_bindings").rename(folder / "tensorrt")
    for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
        library = folder / f"{name}.so.{major}"
        subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{library.name}",
                        "-o", library, STUB / "stub.c"], check=True)  # fmt: skip
    return request.param, folder


def _python(folder, *arguments):
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": path}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True,
                          env=environment, timeout=120)  # fmt: skip


def test_what_is_recorded_is_what_the_true_bindings_say(bindings):
    version, folder = bindings
    done = _python(folder, STUB / "record.py", *RECORDED[version])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"version": version, "api": RECORDED[version]}


def test_the_adapter_loads_with_the_true_bindings(bindings):
    """Its classes are made, and a factory that gives nothing, as without a GPU, is one line."""
    program = """
from pathlib import Path
from dossr.runtime.engines.tensorrt import engine as trt
from dossr.runtime.engines.tensorrt.progress import BuildProgress
from dossr.runtime.engines.tensorrt.profiles import BuildOptions
progress = BuildProgress(lambda share, left: None)
monitor, log = trt.Monitor(progress), trt.Log()
monitor.phase_start("whole", None, 2)
assert monitor.step_complete("whole", 0)
progress.cancel()
assert not monitor.step_complete("whole", 1)
monitor.phase_finish("whole")
log.log(trt.trt.ILogger.ERROR, "bad")
log.log(trt.trt.ILogger.WARNING, "noise")
assert log.errors == ["bad"]
try:
    trt.build_plan(Path("x.onnx"), {}, BuildOptions(), "fp16", Path("cache"), progress)
except trt.EngineError as error:
    print(error)
"""
    done = _python(bindings[1], "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "TensorRT: the builder does not start: TensorRT did not say why\n"


class Fake:
    """A TensorRT object that has the recorded names only, notes each call and answers from a table."""

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
    """The module ``tensorrt`` of some version as a fake, and what was asked of it."""

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

    def order(self):
        return [name for name, _ in self.calls]


class Arrays:
    """GPU memory as NumPy arrays; a captured graph is the work itself."""

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


@pytest.fixture(params=["10.3.0", "11.4.0.106"])
def world(request, monkeypatch):
    world = World(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", world.module)
    monkeypatch.delitem(sys.modules, "dossr.runtime.engines.tensorrt.engine", raising=False)
    trt = importlib.import_module("dossr.runtime.engines.tensorrt.engine")
    monkeypatch.setattr(trt, "find_gpu", lambda: Gpu("Orin", "8.7", 1 << 34, True, "12.6", "540.4"))
    monkeypatch.setattr(trt, "find_jetson", lambda: None)
    world.trt = trt
    yield world
    sys.modules.pop("dossr.runtime.engines.tensorrt.engine", None)


def _engine(world, bundle, options=None, **more):
    memory = Arrays()
    scratch = world.trt.Scratch(memory)
    return world.trt.TrtEngine(bundle / "restorer.onnx", memory, scratch, options, **more), memory


LR = np.zeros((1, 3, 16, 16), np.float32)


def test_an_engine_is_built_on_the_first_run_and_kept(world, fresh_bundle):
    told = []
    engine, memory = _engine(world, fresh_bundle, report=told.append)
    assert world.calls == []  # nothing is done before it is known for which size
    engine.run(lr=LR)
    plan = fresh_bundle / "engines" / "restorer-1x3x16x16.engine"
    assert plan.read_bytes() == b"plan"
    assert (fresh_bundle / "engines" / "timing.cache").read_bytes() == b"timings"
    assert told == [
        f"building {plan.name}: not built yet",
        "verifying restorer against ONNX Runtime on the CPU",
    ]
    order = world.order()
    build = [name for name in order if name.startswith(("Builder", "OnnxParser", "IBuilderConfig"))]
    assert build == [
        "Builder",
        "Builder.create_network",
        "OnnxParser",
        "OnnxParser.parse_from_file",
        "Builder.create_builder_config",
        "IBuilderConfig.builder_optimization_level=",
        "IBuilderConfig.profiling_verbosity=",
        "IBuilderConfig.clear_flag",
        "Builder.create_optimization_profile",
        "IBuilderConfig.add_optimization_profile",
        "IBuilderConfig.create_timing_cache",
        "IBuilderConfig.set_timing_cache",
        "IBuilderConfig.progress_monitor=",
        "Builder.build_serialized_network",
        "IBuilderConfig.get_timing_cache",
    ]
    assert ("IBuilderConfig.clear_flag", ("TF32",)) in world.calls  # the toy bundle is fp32
    assert ("Builder.create_network", (1,)) in world.calls  # 1 << STRONGLY_TYPED of the fake
    assert ("IOptimizationProfile.set_shape", ("lr", *[(1, 3, 16, 16)] * 3)) in world.calls
    last = len(order) - order[::-1].index("IExecutionContext.set_device_memory")
    run = order[last - 1 :]
    assert run == [
        "IExecutionContext.set_device_memory",
        "IExecutionContext.set_input_shape",
        "IExecutionContext.get_tensor_shape",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.set_tensor_address",
        "IExecutionContext.execute_async_v3",  # once before the graph
        "IExecutionContext.execute_async_v3",
    ]
    assert world.calls[-1][1] == (7,)  # on the one stream
    world.calls.clear()
    engine.run(lr=LR)
    assert world.order() == ["IExecutionContext.execute_async_v3"]
    assert memory.launches == 3  # the verification's among them
    world.calls.clear()
    again, _ = _engine(world, fresh_bundle)
    again.run(lr=LR)
    assert "Builder" not in world.order()


def test_attention_may_decompose_where_this_tensorrt_has_it(world, fresh_bundle):
    _engine(world, fresh_bundle)[0].run(lr=LR)
    has_it = world.api["IAttention.decomposable"] is not None
    assert (("IAttention.decomposable=", (True,)) in world.calls) == has_it


def test_results_are_the_callers_to_keep(world, fresh_bundle):
    engine, _ = _engine(world, fresh_bundle)
    first = engine.run(lr=LR)["restored"]
    assert not np.shares_memory(first, engine.run(lr=LR)["restored"])
    assert first.shape == (1, 3, 64, 64)


def test_one_block_serves_all_engines_and_grows(world):
    memory = Arrays()
    scratch = world.trt.Scratch(memory)
    scratch.reserve(100)
    before = scratch.pointer
    scratch.reserve(50)
    assert scratch.pointer == before
    scratch.reserve(1 << 22)
    assert scratch._block.nbytes == 1 << 22


def test_an_engine_binds_again_after_the_block_grew(world, fresh_bundle):
    engine, _ = _engine(world, fresh_bundle)
    engine.run(lr=LR)
    engine._scratch.reserve(1 << 24)
    world.calls.clear()
    engine.run(lr=LR)
    assert world.calls[0] == (
        "IExecutionContext.set_device_memory",
        (engine._scratch.pointer, 4096),
    )


def test_sides_make_one_engine_for_many_sizes(world, fresh_bundle):
    engine, memory = _engine(world, fresh_bundle, BuildOptions(sides=(16, 20, 64)))
    engine.run(lr=LR)
    shapes = ("lr", (1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64))  # 20 padded to a multiple of 16
    assert ("IOptimizationProfile.set_shape", shapes) in world.calls
    plan = fresh_bundle / "engines" / "restorer-1x3x16x16-to-1x3x64x64.engine"
    assert plan.is_file()
    assert "EngineInspector.execution_context=" in world.order()
    world.calls.clear()
    engine.run(lr=np.zeros((1, 3, 48, 32), np.float32))
    assert "Builder" not in world.order()
    assert memory.launches == 0  # graphs are for fixed sizes


def test_options_reach_the_builder(world, fresh_bundle):
    options = BuildOptions(
        level=5, workspace=1 << 30, is_stripped=True, is_version_compatible=True,
        is_hardware_compatible=True,
    )  # fmt: skip
    _engine(world, fresh_bundle, options)[0].run(lr=LR)
    for call in (
        ("IBuilderConfig.builder_optimization_level=", (5,)),
        ("IBuilderConfig.set_memory_pool_limit", ("WORKSPACE", 1 << 30)),
        ("IBuilderConfig.set_flag", ("VERSION_COMPATIBLE",)),
        ("IBuilderConfig.set_flag", ("STRIP_PLAN",)),
        ("IBuilderConfig.set_flag", ("REFIT_IDENTICAL",)),
        ("IBuilderConfig.hardware_compatibility_level=", ("AMPERE_PLUS",)),
        ("Runtime.engine_host_code_allowed=", (True,)),
        ("OnnxParserRefitter.refit_from_file", (str(fresh_bundle / "restorer.onnx"),)),
    ):
        assert call in world.calls
    order = world.order()
    refit = order.index("Refitter.refit_cuda_engine")
    assert order.index("Runtime.deserialize_cuda_engine") < refit
    assert refit < order.index("IExecutionContext.set_device_memory")


def test_a_measured_timing_cache_is_used_and_a_foreign_one_dropped(world, fresh_bundle):
    timings = fresh_bundle / "engines" / "timing.cache"
    timings.parent.mkdir()
    timings.write_bytes(b"measured")
    _engine(world, fresh_bundle)[0].run(lr=LR)
    assert [a for n, a in world.calls if n.endswith("create_timing_cache")] == [(b"measured",)]
    world.answers["set_timing_cache"] = False
    world.calls.clear()
    _engine(world, fresh_bundle, BuildOptions(level=4))[0].run(lr=LR)
    tried = [a for n, a in world.calls if n.endswith("create_timing_cache")]
    assert tried == [(b"timings",), (b"",)]


@pytest.mark.parametrize(
    ("answers", "said", "expected"),
    [
        ({"parse_from_file": False}, "No importer registered for op: Attention", "--opset 18"),
        ({"build_serialized_network": None}, "Could not find any implementation for node n", "memory"),
        ({"build_serialized_network": None}, "Requested amount of GPU memory: out of memory", "out of memory"),
        ({"add_optimization_profile": -1}, "", "takes no such sizes"),
        ({"deserialize_cuda_engine": None}, "Version tag does not match", "another version of TensorRT"),
        ({"create_execution_context": None}, "cudaErrorMemoryAllocation", "out of memory"),
        ({"set_input_shape": False}, "does not satisfy any optimization profiles", "size is outside"),
        ({"set_tensor_address": False}, "", "takes no memory for"),
        ({"execute_async_v3": False}, "Cuda failure: out of memory", "out of memory"),
        ({"get_tensor_dtype": "HALF"}, "", "not the manifest's: lr, restored"),
        ({"get_engine_information": '{"Layers": ["name only"]}'}, "", "does not show the layers"),
        ({"get_engine_information": "{"}, "", "does not show the layers"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_that_says_what_it_means(
    world, fresh_bundle, monkeypatch, answers, said, expected
):
    world.answers.update(answers)
    make = world.trt.Log
    monkeypatch.setattr(world.trt, "Log", lambda: _talking(make(), said))
    with pytest.raises(EngineError, match=expected) as raised:
        _engine(world, fresh_bundle)[0].run(lr=LR)
    assert "\n" not in str(raised.value)


def _talking(log, said):
    log.errors += [said] if said else []
    return log


def test_an_engine_that_computes_something_else_is_not_kept(world, fresh_bundle):
    def a_little_off(stream):
        world.enlarge()
        world.at("restored", world.enlarged())[...] *= 1.01
        return True

    honest = world.answers["execute_async_v3"]
    world.answers["execute_async_v3"] = a_little_off
    with pytest.raises(
        EngineError, match=r"restorer differs from ONNX Runtime by 1\.0e-02"
    ) as raised:
        _engine(world, fresh_bundle)[0].run(lr=LR)
    assert "\n" not in str(raised.value)
    assert not list((fresh_bundle / "engines").glob("*.engine"))
    _engine(world, fresh_bundle, BuildOptions(is_verified=False))[0].run(lr=LR)
    world.answers["execute_async_v3"] = honest
    _engine(world, fresh_bundle)[0].run(lr=LR)  # built again: nobody vouches for the one there
    record = json.loads((fresh_bundle / "engines" / "restorer-1x3x16x16.json").read_text())
    assert record["notes"]["errors"] == {"restored": 0.0}
    assert "verified=True" in record["key"]["flags"]


def test_ctrl_c_is_not_kept_as_an_engine(world, fresh_bundle):
    def interrupted(network, config):
        raise KeyboardInterrupt

    world.answers["build_serialized_network"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        _engine(world, fresh_bundle)[0].run(lr=LR)
    assert {p.suffix for p in (fresh_bundle / "engines").iterdir()} == {".lock"}


def test_a_float16_engine_must_compute_in_float16(world, fresh_bundle):
    manifest = fresh_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"fp32"', '"fp16"'))
    engine, _ = _engine(world, fresh_bundle)
    world.answers["get_engine_information"] = json.dumps(
        {"Layers": [{"LayerType": "conv", "Inputs": [{"DataType": "Float"}], "Outputs": []}]}
    )
    with pytest.raises(EngineError, match=r"only 0% of the layers of restorer compute in float16"):
        engine.run(lr=LR)
    assert not list((fresh_bundle / "engines").glob("*.engine"))
    del world.answers["get_engine_information"]
    world.answers["get_engine_information"] = json.dumps({"Layers": World.LAYERS})
    engine.run(lr=LR)
    assert ("IBuilderConfig.clear_flag", ("TF32",)) not in world.calls
    record = json.loads((fresh_bundle / "engines" / "restorer-1x3x16x16.json").read_text())
    assert record["notes"]["fp16_share"] == 1.0


def test_the_bundle_is_refused_where_this_tensorrt_cannot_read_it(world, fresh_bundle):
    manifest = fresh_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"opset": 18', '"opset": 23'))
    if world.module.__version__ == "10.3.0":
        with pytest.raises(EngineError, match="export the checkpoint with --opset 18"):
            _engine(world, fresh_bundle)
    else:
        _engine(world, fresh_bundle)


def test_the_engine_of_another_gpu_is_refused_field_by_field(world, fresh_bundle, monkeypatch):
    _engine(world, fresh_bundle)[0].run(lr=LR)
    other = Gpu("Thor", "11.0", 1 << 37, True, "13.0", "580.0")
    monkeypatch.setattr(world.trt, "find_gpu", lambda: other)
    engine, _ = _engine(world, fresh_bundle, BuildOptions(rebuild=False))
    with pytest.raises(EngineError, match=r"gpu: Thor here, Orin in the engine; capability: 11\.0"):
        engine.run(lr=LR)


def test_every_stage_has_its_shapes(world, toy_bundle):
    manifest = read_manifest(toy_bundle / "manifest.json")
    shapes = {
        name: world.trt.stage_shapes(manifest, record, 16, 32)
        for name, record in manifest.stages.items()
    }
    assert shapes["restorer"] == {"lr": (1, 3, 16, 32)}
    assert shapes["encoder"] == {"restored": (1, 3, 64, 128)}
    assert shapes["denoiser"] == {"x": (1, 4, 8, 16), "hint": (1, 4, 8, 16), "time": (1,)}
    assert shapes["decoder"] == {"x": (1, 4, 8, 16)}


def test_an_engine_can_be_built_ahead(world, fresh_bundle):
    engine, _ = _engine(world, fresh_bundle)
    plan = engine.prepare(16, 16)
    key = world.trt.engine_key(
        engine._manifest, engine._record, engine._gpu,
        {"lr": ((1, 3, 16, 16),) * 3}, BuildOptions(),
    )  # fmt: skip
    assert refusals(plan, key) == []


def test_the_monitor_never_raises(world):
    def broken(share, left):
        raise ValueError("a bug in a display")

    progress = BuildProgress(broken)
    monitor = world.trt.Monitor(progress)
    monitor.phase_start("whole", None, 2)
    assert monitor.step_complete("whole", 0)
    progress.cancel()
    assert not monitor.step_complete("whole", 1)
    monitor.phase_finish("whole")
