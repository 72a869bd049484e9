"""Built engines on disk: which one fits, what is said of one that does not, one builder at a time."""

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dossr.runtime.engines.tensorrt.cache import (
    EngineKey,
    differences,
    get_or_build,
    refusals,
    write_whole,
)
from dossr.runtime.engines.tensorrt.profiles import BuildOptions, engine_name, holds, is_fixed
from dossr.runtime.engines.tensorrt.progress import BuildProgress
from dossr.runtime.errors import EngineError
from dossr.runtime.terminal import interruptible, time_left

KEY = EngineKey(
    files={"denoiser.onnx": "a" * 64, "denoiser.onnx.data": "b" * 64},
    tensorrt="10.3.0",
    gpu="Orin",
    capability="8.7",
    driver="540.4.0",
    profile={"x": ((1, 4, 64, 64),) * 3, "time": ((1,),) * 3},
    flags=("level=3", "workspace=None"),
)


def _stored(folder, data=b"plan"):
    plan = folder / "engines" / "denoiser.engine"
    assert get_or_build(plan, KEY, lambda: (data, {"fp16_share": 0.9}))
    return plan


def _never():
    raise AssertionError("it must not be built")


def test_what_was_built_is_used_again(tmp_path):
    plan = _stored(tmp_path)
    assert refusals(plan, KEY) == []
    assert not get_or_build(plan, KEY, _never)
    assert plan.read_bytes() == b"plan"


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("tensorrt", "11.4.1", "tensorrt: 11.4.1 here, 10.3.0 in the engine"),
        ("gpu", "Thor", "gpu: Thor here, Orin in the engine"),
        ("capability", "11.0", "capability: 11.0 here, 8.7 in the engine"),
        ("driver", "580.1", "driver: 580.1 here, 540.4.0 in the engine"),
        ("flags", ("level=5", "workspace=None"),
         'flags: ["level=5", "workspace=None"] here, ["level=3", "workspace=None"] in the engine'),
        ("files", {"denoiser.onnx": "a" * 64, "denoiser.onnx.data": "c" * 64},
         "files denoiser.onnx.data: cccccccccccc here, bbbbbbbbbbbb in the engine"),
        ("files", {"denoiser.onnx": "a" * 64},
         "files denoiser.onnx.data: nothing here, bbbbbbbbbbbb in the engine"),
        ("profile", {"x": ((1, 4, 64, 64),) * 3, "time": ((2,),) * 3},
         "profile time: [[2], [2], [2]] here, [[1], [1], [1]] in the engine"),
    ],
)  # fmt: skip
def test_each_field_that_differs_is_a_line(tmp_path, field, value, line):
    plan = _stored(tmp_path)
    other = dataclasses.replace(KEY, **{field: value})
    assert refusals(plan, other) == [line]
    with pytest.raises(EngineError) as raised:
        get_or_build(plan, other, _never, rebuild=False)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    told = []
    assert get_or_build(plan, other, lambda: (b"new", {}), log=told.append)
    assert told == [f"building denoiser.engine: {line}"]
    assert plan.read_bytes() == b"new"
    assert refusals(plan, other) == []


def test_no_field_of_the_key_is_forgotten():
    """A field that is added to the key is compared, too."""
    changed = {"files": {}, "profile": {}, "flags": ()}
    for field in dataclasses.fields(EngineKey):
        other = dataclasses.replace(KEY, **{field.name: changed.get(field.name, "other")})
        assert differences(other, KEY.document()), field.name
    assert differences(KEY, KEY.document()) == []


@pytest.mark.parametrize("data", [b"", b"pla", b"plaN", b"plan of another size"])
def test_a_damaged_plan_is_found_and_built_again(tmp_path, data):
    plan = _stored(tmp_path)
    plan.write_bytes(data)
    assert refusals(plan, KEY) == ["the plan is damaged: it is not the one that was built"]
    assert get_or_build(plan, KEY, lambda: (b"plan", {}))
    assert refusals(plan, KEY) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"format_version": 1}', "[" * 100_000, "\x00", '"key"', "null"]
)
def test_a_damaged_record_is_one_line(tmp_path, text):
    plan = _stored(tmp_path)
    plan.with_suffix(".json").write_text(text)
    (reason,) = refusals(plan, KEY)
    assert "denoiser.json" in reason


def test_a_record_of_another_format_or_shape_is_refused(tmp_path):
    plan = _stored(tmp_path)
    record = json.loads(plan.with_suffix(".json").read_text())
    for change in ({"format_version": 2}, {"key": []}):
        plan.with_suffix(".json").write_text(json.dumps({**record, **change}))
        assert refusals(plan, KEY)


def test_an_engine_that_is_not_there_may_not_be_built(tmp_path):
    with pytest.raises(EngineError, match="not built yet"):
        get_or_build(tmp_path / "x.engine", KEY, _never, rebuild=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_the_old_engine(tmp_path):
    plan = _stored(tmp_path)
    before = {path.name: path.read_bytes() for path in plan.parent.iterdir()}

    def fail():
        raise EngineError("no memory")

    with pytest.raises(EngineError, match="no memory"):
        get_or_build(plan, dataclasses.replace(KEY, gpu="Thor"), fail)
    assert {path.name: path.read_bytes() for path in plan.parent.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "engines").write_text("a file")
    with pytest.raises(EngineError, match="cannot be written"):
        get_or_build(tmp_path / "engines" / "x.engine", KEY, lambda: (b"", {}))


def test_a_file_is_the_old_or_the_new_one_whenever_the_writer_dies(tmp_path):
    """A process that writes without end is killed at odd moments."""
    path = tmp_path / "plan.engine"
    program = (
        "import sys; from pathlib import Path\n"
        "from dossr.runtime.engines.tensorrt.cache import write_whole\n"
        "n = 0\n"
        "while True:\n"
        "    n = (n + 1) % 256\n"
        "    write_whole(Path(sys.argv[1]), bytes([n]) * (1 << 20))\n"
    )
    for pause in (0.0, 0.013, 0.031):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause)
        writer.kill()
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 1 << 20
        assert len(set(data)) == 1
        path.unlink()


def test_nothing_is_left_beside_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(TypeError):
        write_whole(tmp_path / "x.engine", "text is no buffer")
    assert list(tmp_path.iterdir()) == []


BUILDER = """
import sys, time
from pathlib import Path
from dossr.runtime.engines.tensorrt.cache import EngineKey, get_or_build
folder, name, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
key = EngineKey({"a.onnx": "0"}, "10.3.0", "Orin", "8.7", "540", {"x": ((1,), (1,), (1,))}, ())
def build():
    (folder / f"building-{name}").touch()
    time.sleep(pause)
    return f"built by {name}".encode(), {}
built = get_or_build(folder / "a.engine", key, build, log=lambda line: print(line, flush=True))
print("built" if built else "taken")
"""


def _process(folder, name, pause):
    command = [sys.executable, "-c", BUILDER, str(folder), name, str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_of_two_processes_one_builds_and_the_other_takes_it(tmp_path):
    first = _process(tmp_path, "first", 60)
    _wait_for(tmp_path / "building-first")
    second = _process(tmp_path, "second", 0)
    assert second.stdout.readline() == "waiting: another process builds a.engine\n"
    assert not (tmp_path / "building-second").exists()
    first.kill()  # the lock goes with its process
    first.communicate()
    assert second.communicate(timeout=60)[0].splitlines()[-1] == "built"
    assert (tmp_path / "a.engine").read_bytes() == b"built by second"
    third = _process(tmp_path, "third", 0)
    assert third.communicate(timeout=60)[0] == "taken\n"


def test_who_waited_takes_what_was_built_meanwhile(tmp_path):
    first = _process(tmp_path, "first", 3)
    _wait_for(tmp_path / "building-first")
    second = _process(tmp_path, "second", 0)
    assert first.communicate(timeout=60)[0].splitlines()[-1] == "built"
    assert second.communicate(timeout=60)[0].splitlines()[-1] == "taken"
    assert not (tmp_path / "building-second").exists()


def test_progress_never_falls_and_tells_the_time_left():
    now = [0.0]
    seen = []
    progress = BuildProgress(lambda *told: seen.append(told), clock=lambda: now[0])
    progress.start("build", None, 4)
    progress.start("tactics", "build", 10)
    for step in range(10):
        now[0] += 1.0
        assert progress.step("tactics", step)
    progress.finish("tactics")
    progress.step("build", 0)
    assert seen[0] == (0.025, pytest.approx(39.0))
    assert seen[-1] == (0.25, pytest.approx(30.0))  # a quarter in ten seconds
    progress.start("again", "build", 1)
    progress.step("unknown", 3)
    progress.step("build", 2)
    progress.finish("again")
    progress.finish("build")
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert seen[-1] == (1.0, 0.0)


def test_a_cancelled_build_stops_at_its_next_step():
    progress = BuildProgress(lambda share, left: None)
    progress.start("build", None, 2)
    assert progress.step("build", 0)
    progress.cancel()
    assert not progress.step("build", 1)


def test_ctrl_c_ends_work_that_lets_no_signal_through(heeding):
    """The work waits in one call, as in a library; the signal is heard, the work is told, and ends."""
    program = (
        "import threading\n"
        "from dossr.runtime.terminal import interruptible\n"
        "told = threading.Event()\n"
        "def work():\n"
        "    print('working', flush=True)\n"
        "    told.wait(60)\n"
        "    print('told', told.is_set(), flush=True)\n"
        "try:\n"
        "    interruptible(work, told.set)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "told True\nstopped\n"


def test_the_work_gives_its_result_or_its_error():
    caller = threading.get_ident()
    assert interruptible(threading.get_ident, lambda: None) != caller
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, lambda: None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (2, "5 s"), (41, "45 s"), (91, "2 min"), (3599, "60 min"), (7500, "2 h 5 min")],
)
def test_time_left_is_no_more_exact_than_it_is_known(seconds, text):
    assert time_left(seconds) == text.replace("60 min", "1 h 0 min")


def test_a_profile_holds_its_sizes():
    profile = {"x": ((1, 4, 8, 8), (1, 4, 16, 16), (1, 4, 32, 32)), "time": ((1,),) * 3}
    assert holds(profile, {"x": (1, 4, 8, 32), "time": (1,)})
    assert not holds(profile, {"x": (1, 4, 8, 33), "time": (1,)})
    assert not holds(profile, {"x": (1, 4, 8), "time": (1,)})
    assert not holds(profile, {"x": (1, 4, 8, 8)})
    assert not is_fixed(profile)
    assert is_fixed(KEY.profile)
    assert engine_name("denoiser", profile) == "denoiser-1x4x8x8-to-1x4x32x32.engine"
    assert engine_name("denoiser", KEY.profile) == "denoiser-1x4x64x64.engine"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level": 6}, "level must be 0 to 5, got 6"),
        ({"workspace": 0}, "workspace must be above 0 bytes, got 0"),
        ({"sides": (64, 32, 128)}, "sides must be rising"),
        ({"sides": (0, 32, 128)}, "sides must be rising"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        BuildOptions(**wrong)


def test_every_option_but_rebuild_and_sides_is_in_the_key():
    """rebuild does not change the engine, and sides are in its profile."""
    plain = BuildOptions()
    changed = {"level": 5, "workspace": 1, "is_stripped": True, "is_version_compatible": True,
               "is_hardware_compatible": True, "is_verified": False, "rebuild": False,
               "sides": (1, 2, 3)}  # fmt: skip
    assert changed.keys() == {field.name for field in dataclasses.fields(BuildOptions)}
    same = [n for n, v in changed.items() if BuildOptions(**{n: v}).flags() == plain.flags()]
    assert same == ["rebuild", "sides"]
    assert list(plain.flags()) == sorted(plain.flags())


def test_the_files_are_beside_the_engine(tmp_path):
    plan = _stored(tmp_path)
    names = {path.name for path in Path(plan.parent).iterdir()}
    assert names == {"denoiser.engine", "denoiser.json", "denoiser.lock"}
