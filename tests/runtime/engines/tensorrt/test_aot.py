"""Engines built ahead of time by TensorRT-RTX's true compiler, from the built-in bundle."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from dossr.runtime.engines.tensorrt.aot import build_ahead
from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.errors import EngineError

STAGES = ("restorer", "encoder", "denoiser", "decoder")


def _silent(line):
    pass


def _names(bundle, suffix=""):
    return {path.name for path in (bundle.folder / "engines").glob(f"*{suffix}")}


@pytest.mark.parametrize("options", [None, BuildOptions(sides=(64, 128, 192))], ids=["fixed", "range"])  # fmt: skip
def test_every_network_of_the_built_in_bundle_is_compiled(demo, options):
    said = []
    plans = build_ahead(demo, ["sm86", "sm89", "sm120"], options, log=said.append)
    assert [plan.name.split("-")[0] for plan in plans] == list(STAGES)
    assert len(said) == 4
    for plan in plans:
        record = json.loads(plan.with_suffix(".json").read_text())
        assert record["key"]["gpu"] == "any"
        assert record["key"]["capabilities"] == ["8.6", "8.9", "12.0"]
        assert record["size"] == plan.stat().st_size > 1e6
        assert 0 < record["notes"]["activation_memory"] < 1 << 30
        assert record["verified"] == {}


def test_a_stopped_build_goes_on_where_it_stopped(toy, ctrl_c_at):
    show, _ = ctrl_c_at(1)

    def show_for(label):
        return show if "denoiser" in label else lambda share, left: None

    with pytest.raises(KeyboardInterrupt):
        build_ahead(toy, ["sm89"], side=16, show_for=show_for, log=_silent)
    assert [name.split("-")[0] for name in sorted(_names(toy, ".engine"))] == [
        "encoder",
        "restorer",
    ]
    assert {name.split(".")[-1] for name in _names(toy)} == {"engine", "json", "lock"}
    assert len(_names(toy, ".json")) == 2
    said = []
    plans = build_ahead(toy, ["sm89"], side=16, log=said.append)
    assert [line.split("-")[0] for line in said] == ["building denoiser", "building decoder"]
    assert all(plan.is_file() for plan in plans)


def test_engines_that_fit_are_kept_and_those_of_other_gpus_are_built_beside_them(toy):
    both = build_ahead(toy, ["sm89", "sm86", "sm86"], side=16, log=_silent)
    assert [plan.name.split(".")[1] for plan in both] == ["sm86-sm89"] * 4
    before = {plan: plan.stat().st_mtime_ns for plan in both}
    assert build_ahead(toy, ["sm86", "sm89"], side=16, log=_silent) == both
    other = build_ahead(toy, ["sm120"], side=16, log=_silent)
    assert not set(other) & set(both)
    assert {plan: plan.stat().st_mtime_ns for plan in both} == before


def test_a_changed_setting_builds_again(toy):
    build_ahead(toy, ["sm89"], side=16, log=_silent)
    said = []
    build_ahead(toy, ["sm89"], BuildOptions(level=4), side=16, log=said.append)
    assert len(said) == 4
    assert 'flags: ["gpus=this", "level=4"' in said[0]


@pytest.mark.parametrize(
    ("capabilities", "options", "words"),
    [
        (["sm86", "sm90"], None, "sm75, sm80, sm86, sm89, sm120, sm121, got 'sm90'"),
        (["8.9", "ada"], None, "got '8.9', 'ada'"),
        ([], None, "got nothing"),
        (["sm89"], BuildOptions(is_stripped=True), "leave out stripped"),
        (["sm89"], BuildOptions(gpus="ampere-or-newer"), "no hardware-compatible"),
    ],
)
def test_what_cannot_be_built_ahead_is_one_line_before_anything_is_built(
    toy, capabilities, options, words
):
    with pytest.raises(EngineError) as raised:
        build_ahead(toy, capabilities, options, log=_silent)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (toy.folder / "engines").exists()


def test_a_network_that_turing_does_not_take_says_which_cards_serve(demo):
    with pytest.raises(EngineError, match=r"cannot build denoiser.*build for 8\.0 and newer"):
        build_ahead(demo, ["sm75", "sm89"], log=_silent)


BUILD = """
import sys
from pathlib import Path
from dossr.runtime.bundle import open_bundle
from dossr.runtime.engines.tensorrt.aot import build_ahead
from dossr.runtime.errors import EngineError
try:
    build_ahead(open_bundle(Path(sys.argv[1])), ["sm89"], side=64)
except EngineError as error:
    sys.exit(str(error))
"""


def _build(folder, **more):
    return subprocess.Popen([sys.executable, "-c", BUILD, folder], stderr=subprocess.PIPE, text=True, **more)  # fmt: skip


@pytest.mark.parametrize("room", [10_000, 1_000_000])
def test_no_room_for_an_engine_is_one_line_and_leaves_nothing(demo, room):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    process = _build(demo.folder, preexec_fn=limit)
    (line,) = process.communicate(timeout=120)[1].splitlines()
    assert line.startswith(f"{demo.folder}/engines/restorer-")
    assert line.endswith(f".engine cannot be written: {os.strerror(errno.EFBIG)}")
    assert [name for name in _names(demo) if not name.endswith(".lock")] == []


def test_ctrl_c_in_a_process_that_builds_leaves_nothing_half_written(demo):
    process = _build(demo.folder)
    deadline = time.monotonic() + 120
    while not list(demo.folder.glob("engines/denoiser-*.lock")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert {name.split("-")[0] for name in _names(demo, ".engine")} == {"restorer", "encoder"}
    assert {name.split(".")[-1] for name in _names(demo)} == {"engine", "json", "lock"}
