"""Fixtures: ONNX Runtime's GPU build in processes of its own, over CUDA libraries that compute nothing."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from dossr.runtime.bundle import open_bundle

FOLDER = Path(__file__).parent / "stub_cuda"


def _load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy_graph(toy_bundle):
    """toy_graph(stage) is the file of a toy network."""
    bundle = open_bundle(toy_bundle)
    return lambda stage: bundle.path(stage, "cpu")


@pytest.fixture(scope="session")
def stubs(common):
    """The folder of the compiled stubs."""
    libraries = _load("libraries")
    missing = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} must be there to compile CUDA's stubs")
    if not libraries.PROVIDER.is_file():
        pytest.skip(f"onnxruntime-gpu must be in {libraries.GPU_BUILD}; make test puts it there")
    folder = common / "stub-cuda"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            libraries.compile_stubs(libraries.PROVIDER, folder)
    return folder


@pytest.fixture(scope="session")
def gpu_build(stubs):
    """gpu_build(*arguments, libraries=stubs) runs Python with the GPU build and returns its output."""
    environment = _load("libraries").environment

    def run(*arguments, libraries=stubs):
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, env=environment(libraries), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def partitions(gpu_build):
    """partitions(files, sizes, options) tells what the provider makes of each; see sessions.py."""

    def run(files, sizes=None, options=None):
        request = {"files": list(map(str, files)), "sizes": sizes or {}, "options": options or {}}
        return json.loads(gpu_build(FOLDER / "sessions.py", json.dumps(request)).splitlines()[-1])

    return run
