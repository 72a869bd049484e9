"""What is measured, and what a process of its own is good for."""

import copy
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import pytest
from msgspec.structs import replace as changed

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from dossr.bench.measure.backends import (  # noqa: E402
    OnnxBackend,
    TorchBackend,
    allow_tf32,
    torch_backend,
    write_onnx,
)
from dossr.bench.measure.calls import VARIANTS, TimeNetwork  # noqa: E402
from dossr.bench.measure.count import count_and_fingerprint  # noqa: E402
from dossr.bench.measure.process import CallError, run  # noqa: E402
from dossr.bench.measure.timing import time_files, time_image, time_loop, time_network  # noqa: E402
from dossr.bench.systems import load_system  # noqa: E402

NETWORK = TimeNetwork(system="bsrgan", network="restorer", size=64, reduced=True)


@pytest.fixture(scope="module")
def bsrgan():
    return load_system("bsrgan", 64, reduced=True)


def test_every_call_is_made_and_the_first_is_apart(bsrgan):
    ticks = []
    found = time_network(bsrgan.networks[0], TorchBackend(), 1, 3, lambda: ticks.append(1))
    assert len(ticks) == 1 + 1 + 3
    assert min(found.load_s, found.cold_s, found.seconds) > 0


def test_an_exported_file_is_loaded_and_not_made_again(bsrgan, tmp_path):
    (network,) = bsrgan.networks
    write_onnx(network, "cpu", "fp32", tmp_path / "it.onnx")
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.iterdir())
    backend = OnnxBackend(files={network.name: tmp_path / "it.onnx"})
    found = time_network(network, backend, 0, 1, lambda: None)
    assert found.seconds > 0
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.iterdir()) == before


class Echo(nn.Module):
    """Gives what it is shown."""

    def forward(self, x, time):
        return x, time


def test_half_precision_rounds_activations_and_leaves_the_time():
    """bfloat16 has 8 bits: it has no 499."""
    values = torch.full((1, 1), 499.0), torch.full((1,), 499.0)
    x, time = TorchBackend(precision="bf16").load(Echo())(*values)
    assert (x.dtype, time.dtype) == (torch.float32, torch.float32)
    assert (float(x), float(time)) == (500.0, 499.0)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch's own
def test_a_compiled_network_in_bfloat16_gives_what_the_eager_one_gives():
    """What a user of torch would pick on a CPU; compiled in the first call."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU())
    x = torch.rand(1, 3, 8, 8)
    run = torch_backend(VARIANTS["torch-compile-bf16"], "cpu").load(copy.deepcopy(network))
    eager = torch_backend(VARIANTS["torch-bf16"], "cpu").load(copy.deepcopy(network))
    (compiled,), (expected,) = run(x), eager(x)
    assert compiled.dtype == torch.float32
    torch.testing.assert_close(compiled, expected, rtol=2e-2, atol=2e-2)
    assert not torch.equal(expected, network(x))  # rounded


def test_what_times_a_bundle_imports_no_torch():
    program = (
        "import sys; import dossr.bench.measure.worker, dossr.bench.measure.contenders\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_mapped_files_count_as_such_and_other_memory_does_not(tmp_path):
    """In a process of its own, because the peak of this one is behind it."""
    (tmp_path / "weights").write_bytes(bytes(64 << 20))
    program = (
        "import sys, numpy as np\n"
        "from dossr.bench.measure.memory import MappedPeak, process_peak\n"
        "peak = MappedPeak()\n"
        "weights = np.memmap(sys.argv[1], np.uint8, 'r')\n"
        "weights.sum()\n"
        "others = np.ones(128 << 20, np.uint8)\n"
        "print(peak.bytes() >> 20, process_peak() >> 20)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "weights")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    mapped, peak = map(int, done.stdout.split())
    assert 64 <= mapped < 128
    assert peak >= mapped + 128


@pytest.mark.parametrize(("precision", "allowed"), [("tf32", True), ("fp32", False)])
def test_tf32_is_allowed_where_it_is_asked_for_and_nowhere_else(precision, allowed):
    TorchBackend(precision=precision).load(Echo())
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    assert flags == (allowed, allowed)


def test_an_image_is_its_networks_and_its_loop():
    system = load_system("dossr-1", 64, reduced=True)
    ticks = []
    found = time_image(system, TorchBackend(), 64, 0, 1, lambda: ticks.append(1))
    assert len(ticks) == 2 * sum(network.calls for network in system.networks)
    inside = {n.name: n.calls * found.networks[n.name].seconds for n in system.networks}
    # "text" and "condition" are called twice, where the median of both is their mean
    assert sum(inside.values()) + found.loop_s == pytest.approx(found.seconds, rel=1e-6)
    assert found.p90_s == found.seconds


def test_a_loop_alone_runs_no_network(bsrgan):
    network = replace(bsrgan.networks[0], build=None)  # cannot be built, let alone run
    system = replace(bsrgan, networks=(network,))
    outputs = {"restorer": [(1, 3, 256, 256)]}
    assert 0 < time_loop(system, outputs, torch.device("cpu"), 64, 3) < 1


def test_files_take_time():
    assert time_files(32, 1) > 0


def test_the_same_work_has_one_fingerprint_and_other_work_another():
    def fingerprints(name, size=64):
        system = load_system(name, size, reduced=True)
        return {n.name: count_and_fingerprint(n)[1] for n in system.networks}

    one, three = fingerprints("dossr-1"), fingerprints("dossr-3")
    assert one == three
    assert one["condition"] == one["encoder"]
    assert one["restorer"] == fingerprints("ldl")["restorer"]
    assert one["restorer"] != fingerprints("ldl", 128)["restorer"]
    assert len(set(one.values())) == len(one) - 1


def test_a_job_too_large_for_the_machine_is_not_started():
    with pytest.raises(
        CallError, match=r"^lack of memory: about 1048576\.0 GiB needed, .* GiB free$"
    ):
        run(changed(NETWORK, need=2**50))


def test_an_error_in_a_process_is_one_line():
    with pytest.raises(CallError, match=r"^ValueError: system must be one of bsrgan, [^\n]*$"):
        run(changed(NETWORK, system="esrgan"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the process in /proc")
def test_a_killed_process_is_reported_as_lack_of_memory():
    main = threading.main_thread().native_id
    children = Path(f"/proc/self/task/{main}/children")

    def kill(count):
        for child in map(int, children.read_text().split()):
            if "dossr.bench.measure.worker" in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(child, signal.SIGKILL)

    with pytest.raises(CallError, match=r"^killed; likely out of memory \(about 3\.0 GiB needed"):
        run(changed(NETWORK, need=3 * 2**30, repetitions=10_000), kill)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_process_starts_leaves_none(number, monkeypatch):
    def handler(number, frame):
        raise KeyboardInterrupt

    started = []

    def start(*arguments, **options):
        started.append(Popen(*arguments, **options))
        signal.raise_signal(number)
        return started[0]

    before = signal.signal(number, handler)
    monkeypatch.setattr("dossr.bench.measure.process.subprocess.Popen", start)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(NETWORK)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak in /proc")
def test_the_peak_is_the_process_s_own():
    ballast = torch.ones(2**28)  # 1 GiB, which a process started from here must not be charged
    found = run(NETWORK)
    assert ballast.sum() > 0
    assert 2**27 < found.peak_bytes < 2**30
