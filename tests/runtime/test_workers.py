"""A pipeline in other processes, and its pickle."""

import copy
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest

from dossr.runtime import BundleError, EngineError, Pipeline, load_pipeline
from dossr.runtime.engines.device import Host
from dossr.runtime.engines.networks import Networks, NetworkSource

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 20, 16, 3), dtype=np.uint8)


PROGRAM = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
import numpy as np
from dossr.runtime import load_pipeline

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 20, 16, 3), dtype=np.uint8)

if __name__ == "__main__":
    bundle, device, method = sys.argv[1:]
    pipeline = load_pipeline(bundle, device)
    here = [pipeline.upscale(photo, steps=2) for photo in PHOTOS]
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as workers:
        there = list(workers.map(partial(pipeline.upscale, steps=2), PHOTOS))
    np.testing.assert_array_equal(there, here)
    if method == "fork":
        results = multiprocessing.get_context("fork").Queue()
        work = lambda: results.put(pipeline.upscale(PHOTOS[0], steps=2))
        worker = multiprocessing.get_context("fork").Process(target=work)
        worker.start()
        np.testing.assert_array_equal(results.get(timeout=60), here[0])
        worker.join(60)
        assert worker.exitcode == 0
    np.testing.assert_array_equal(pipeline.upscale(PHOTOS[0], steps=2), here[0])
    print("equal")
"""


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers_give_the_same_images(toy_bundle, tmp_path, method, device):
    """The pipeline runs in the program first, so that its networks have threads when it forks.

    A program of its own: in this process other libraries have threads, too, which may hold locks.
    """
    pytest.importorskip("openvino" if device == "openvino" else "onnxruntime")
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot start processes by {method}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program, toy_bundle, device, method],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


def test_a_pickle_holds_the_path_and_the_settings_alone(toy_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(toy_bundle.parent)
    pipeline = load_pipeline(toy_bundle.name, low_memory=True, precision=["fp32", "decoder=fp32"])
    data = pickle.dumps(pipeline)
    assert len(data) < 1000
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(data)
    assert pickle.dumps(again) == data  # without opening anything
    np.testing.assert_array_equal(again.upscale(PHOTOS[0]), pipeline.upscale(PHOTOS[0]))
    assert again.precision == pipeline.precision
    assert copy.deepcopy(pipeline).manifest == pipeline.manifest


def test_equal_pickles_open_their_networks_once(fresh_bundle, monkeypatch):
    opened = []
    original = Host.open
    monkeypatch.setattr(Host, "open", lambda *a: opened.append(a[2]) or original(*a))
    data = pickle.dumps(load_pipeline(fresh_bundle))
    opened.clear()
    for _ in range(3):
        pickle.loads(data).upscale(PHOTOS[0])
    assert sorted(opened) == ["decoder", "denoiser", "encoder", "restorer"]


def test_a_bundle_that_was_replaced_is_another_pipeline(fresh_bundle):
    old = pickle.dumps(load_pipeline(fresh_bundle))
    held = pickle.loads(old)._source.get()
    assert pickle.loads(old)._source.get() is held
    path = fresh_bundle / "manifest.json"
    path.write_text(path.read_text() + "\n")
    new = pickle.dumps(load_pipeline(fresh_bundle))
    assert pickle.loads(new)._source.get() is not held
    with pytest.raises(BundleError, match=r"is another one than .*; call load_pipeline again$"):
        pickle.loads(old).upscale(PHOTOS[0])


def test_a_bundle_that_is_gone_is_an_error_of_the_task_not_of_the_worker(fresh_bundle):
    pipeline = load_pipeline(fresh_bundle)
    shutil.rmtree(fresh_bundle)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as workers:
        task = workers.submit(pipeline.upscale, PHOTOS[0])
        with pytest.raises(BundleError, match="is not a bundle") as caught:
            task.result(timeout=100)
        assert not isinstance(caught.value, BrokenProcessPool)


def test_a_pipeline_made_by_hand_says_that_it_cannot_be_pickled(toy_bundle):
    loaded = load_pipeline(toy_bundle)
    by_hand = Pipeline(loaded._stages, loaded.manifest)
    with pytest.raises(TypeError, match=r"cannot be pickled; call load_pipeline in the worker$"):
        pickle.dumps(by_hand)


def test_a_gpu_is_refused_after_a_fork(toy_bundle, monkeypatch):
    """A stand-in for the device; the process number is another's."""

    class Gpu(Host):
        name = "cuda"

    loaded = load_pipeline(toy_bundle)
    networks = replace(loaded._source.get(), device=Gpu())
    source = NetworkSource(loaded._source.settings, networks)
    assert source.get() is networks
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(EngineError, match=r"on cuda must not be used in a forked process; .*spawn"):
        source.get()
    assert isinstance(networks, Networks)


def test_a_program_that_forks_ends_on_its_own(toy_bundle, tmp_path):
    """Sessions of the parent are never closed in its children, which would hang or crash."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, numpy as np\n"
        "from dossr.runtime import load_pipeline\n"
        f"pipeline = load_pipeline({str(toy_bundle)!r})\n"
        "def work(k):\n"
        "    global pipeline\n"
        "    hr = pipeline.upscale(np.full((16, 16, 3), k, np.uint8))\n"
        "    pipeline = None\n"
        "    return hr.shape\n"
        "if __name__ == '__main__':\n"
        "    pipeline.upscale(np.zeros((16, 16, 3), np.uint8))\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        print(pool.map(work, [3]))\n"
        "        pool.close(); pool.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "[(64, 64, 3)]\n"), done.stderr
