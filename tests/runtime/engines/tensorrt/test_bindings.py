"""Names and signatures that the TensorRT files use, against the published bindings."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import tensorrt_rtx_bindings

import dossr

STUB = Path(__file__).parent / "stub"
RECORDED = {r["version"]: r["api"] for r in json.loads((STUB / "recorded.json").read_text())}
RTX_ONLY = ("IRuntimeConfig.", "IRuntimeCache.", "EngineValidity", "EngineInvalidityDiagnostics",
            "ComputeCapability", "ICudaEngine.create_runtime_config")  # fmt: skip
PACKAGES = {"10": "tensorrt_cu12_bindings", "11": "tensorrt_cu13_bindings"}

spec = importlib.util.spec_from_file_location("record", STUB / "record.py")
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)

# What the adapter's variables are, so that its source tells which names it uses.
CLASSES = {
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "self._cache": "IRuntimeCache",
    "self._context": "IExecutionContext",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "measured": "ITimingCache",
    "refitter": "Refitter",
    "runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
    "weights": "OnnxParserRefitter",
}


def _source():
    """The files that use TensorRT, as one module."""
    folder = Path(dossr.__file__).parent / "runtime" / "engines" / "tensorrt"
    texts = [path.read_text() for path in sorted(folder.glob("*.py"))]
    texts = [text for text in texts if re.search(r"\btrt\b", text)]
    return ast.parse("\n".join(texts))


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
    for kind in ("FLOAT", "HALF", "INT64"):  # by context._DTYPES
        names[f"DataType.{kind}"] = set()
    names["HardwareCompatibilityLevel.AMPERE_PLUS"] = set()
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


def _check(names, api):
    for path, counts in names.items():
        assert api.get(path) is not None, path
        for count in counts:
            # A base class made in a subclass is given itself: trt.ILogger.__init__(self).
            own = path in ("ILogger.__init__", "IProgressMonitor.__init__")
            if isinstance(api[path], list):
                assert _fits(api[path], count - own), f"{path}: {api[path]}, not {count} arguments"


def test_the_source_names_what_it_uses():
    """The analysis of the source finds the names."""
    names = used()
    assert len(names) > 50
    assert names["IExecutionContext.execute_async_v3"] == {1}
    assert names["OnnxParserRefitter.__init__"] == {2}
    assert names["IRuntimeCache.deserialize"] == {1}


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_every_name_and_signature_exists_in_tensorrt(version):
    names = {path: counts for path, counts in used().items() if not path.startswith(RTX_ONLY)}
    assert len(names) > 40
    _check(names, RECORDED[version])


def test_every_name_and_signature_exists_in_tensorrt_rtx():
    _check(used(), {path: record.describe(path, tensorrt_rtx_bindings) for path in used()})


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_what_tensorrt_calls_has_its_parameters(version):
    classes = {node.name: node for node in _source().body if isinstance(node, ast.ClassDef)}
    for ours, theirs in (("Log", "ILogger"), ("Monitor", "IProgressMonitor")):
        for method in classes[ours].body:
            if isinstance(method, ast.FunctionDef) and method.name not in ("__init__", "clear"):
                names = [argument.arg for argument in method.args.args[1:]]
                assert [names] == RECORDED[version][f"{theirs}.{method.name}"]


@pytest.fixture(scope="session", params=["10.3.0", "11.4.0.106"])
def bindings(request, tmp_path_factory):
    """A folder with the published bindings of a version and stub libraries; skips if unavailable."""
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
    """Its classes can be created; a factory that returns nothing, as without a GPU, is one line."""
    program = """
from pathlib import Path
from dossr.runtime.engines.tensorrt.library import select_library
select_library("tensorrt")
import dossr.runtime.engines.tensorrt.engine
from dossr.runtime.engines.tensorrt import build, plan
from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.engines.tensorrt.progress import BuildProgress
progress = BuildProgress(lambda share, left: None)
monitor, log = build.Monitor(progress), plan.LOG
monitor.phase_start("whole", None, 2)
assert monitor.step_complete("whole", 0)
progress.cancel()
assert not monitor.step_complete("whole", 1)
monitor.phase_finish("whole")
log.log(plan.trt.ILogger.ERROR, "bad")
log.log(plan.trt.ILogger.WARNING, "noise")
log.log(plan.trt.ILogger.INFO, "Total Activation Memory: 7 bytes")
assert (log.errors, log.activations) == (["bad"], 7)
for work in (
    lambda: build.build_plan(build.BuildRequest(Path("x.onnx"), {}, BuildOptions(), "fp16"), progress),
    lambda: plan.deserialize(b"", Path("x.onnx"), BuildOptions()),
):
    try:
        work()
    except build.EngineError as error:
        print(error)
"""
    done = _python(bindings[1], "-c", program)
    assert done.returncode == 0, done.stderr
    build, run = done.stdout.splitlines()
    assert build.startswith("TensorRT cannot build x.onnx: ")
    assert run == "TensorRT: the runtime does not start: TensorRT gave no reason"
