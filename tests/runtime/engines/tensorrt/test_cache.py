"""The cache of built engines: matching keys, reported differences, one builder at a time."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dossr.runtime.bundle import sha256
from dossr.runtime.engines.tensorrt import cache
from dossr.runtime.engines.tensorrt.cache import (
    AMPERE_OR_NEWER,
    ANY_GPU,
    EngineKey,
    add_notes,
    differences,
    discard,
    find_plan,
    get_or_build,
    is_verified,
    mark_verified,
    mismatches,
)
from dossr.runtime.errors import EngineError

KEY = EngineKey(
    files={"denoiser.tensorrt.onnx": "a" * 64, "denoiser.weights": "b" * 64},
    library="tensorrt",
    version="10.3.0",
    gpu="Orin",
    capabilities=("8.7",),
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
    assert mismatches(plan, KEY) == []
    assert not get_or_build(plan, KEY, _never)
    assert plan.read_bytes() == b"plan"


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("library", "tensorrt-rtx", "library: tensorrt-rtx here, tensorrt in the engine"),
        ("version", "11.4.1", "version: 11.4.1 here, 10.3.0 in the engine"),
        ("gpu", "Thor", "gpu: Thor here, Orin in the engine"),
        ("gpu", ANY_GPU, "gpu: any here, Orin in the engine"),
        ("capabilities", ("11.0",), 'capabilities: ["11.0"] here, ["8.7"] in the engine'),
        ("flags", ("level=5", "workspace=None"),
         'flags: ["level=5", "workspace=None"] here, ["level=3", "workspace=None"] in the engine'),
        ("files", {"denoiser.tensorrt.onnx": "a" * 64, "denoiser.weights": "c" * 64},
         "files denoiser.weights: cccccccccccc here, bbbbbbbbbbbb in the engine"),
        ("files", {"denoiser.tensorrt.onnx": "a" * 64},
         "files denoiser.weights: nothing here, bbbbbbbbbbbb in the engine"),
        ("profile", {"x": ((1, 4, 64, 64),) * 3, "time": ((2,),) * 3},
         "profile time: [[2], [2], [2]] here, [[1], [1], [1]] in the engine"),
    ],
)  # fmt: skip
def test_each_field_that_differs_is_a_line(tmp_path, field, value, line):
    plan = _stored(tmp_path)
    other = dataclasses.replace(KEY, **{field: value})
    assert mismatches(plan, other) == [line]
    with pytest.raises(EngineError) as raised:
        get_or_build(plan, other, _never, rebuild=False)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    told = []
    assert get_or_build(plan, other, lambda: (b"new", {}), log=told.append)
    assert told == [f"building denoiser.engine: {line}"]
    assert plan.read_bytes() == b"new"
    assert mismatches(plan, other) == []


def test_no_field_of_the_key_is_forgotten():
    """Every field of the key is compared."""
    changed = {"files": {}, "profile": {}, "flags": (), "capabilities": ("9.9",)}
    for field in dataclasses.fields(EngineKey):
        other = dataclasses.replace(KEY, **{field.name: changed.get(field.name, "other")})
        assert differences(other, KEY), field.name
    assert differences(KEY, KEY) == []


AHEAD = dataclasses.replace(
    KEY, library="tensorrt-rtx", version="1.7.1", gpu=ANY_GPU, capabilities=("8.6", "8.9", "12.0")
)


@pytest.mark.parametrize(
    ("capabilities", "fits"),
    [(("8.9",), True), (("12.0", "8.6"), True), (("7.5",), False), (("8.9", "12.1"), False)],
)
def test_an_engine_built_ahead_fits_the_gpus_of_its_list(capabilities, fits):
    wanted = dataclasses.replace(AHEAD, gpu="RTX 4070", capabilities=capabilities)
    assert (differences(wanted, AHEAD) == []) is fits


@pytest.mark.parametrize(("capability", "fits"), [("8.6", True), ("12.0", True), ("7.5", False)])
def test_a_hardware_compatible_engine_fits_ampere_and_newer(capability, fits):
    found = dataclasses.replace(KEY, gpu=ANY_GPU, capabilities=(AMPERE_OR_NEWER,))
    wanted = dataclasses.replace(KEY, gpu="any card", capabilities=(capability,))
    assert (differences(wanted, found) == []) is fits


@pytest.mark.parametrize(
    ("here", "flag", "fits"),
    [
        ("10.3.0", True, True),
        ("11.4.1", True, True),
        ("10.2", True, False),
        ("11.4.1", False, False),
    ],
)
def test_a_version_compatible_engine_fits_newer_versions(here, flag, fits):
    """An older one does not take it for its own, and builds."""
    found = dataclasses.replace(KEY, flags=("version-compatible=True",))
    wanted = dataclasses.replace(KEY, version=here, flags=(f"version-compatible={flag}",))
    assert (differences(wanted, found) == []) is fits


def test_a_plan_is_hashed_once_after_it_was_copied(tmp_path, monkeypatch):
    plan = _stored(tmp_path)
    hashed = []
    monkeypatch.setattr(cache, "sha256", lambda path: hashed.append(path) or sha256(path))
    assert mismatches(plan, KEY) == []
    assert hashed == []  # size and time are those of the build
    os.utime(plan, ns=(1, 1))
    assert [mismatches(plan, KEY) for _ in range(3)] == [[]] * 3
    assert hashed == [plan]


def test_notes_and_verification_are_added_to_the_record(tmp_path):
    plan = _stored(tmp_path)
    assert not is_verified(plan, "Orin")
    mark_verified(plan, "Orin", {"eps": 1e-3})
    add_notes(plan, {"layers": 7})
    assert is_verified(plan, "Orin")
    assert not is_verified(plan, "Thor")
    record = json.loads(plan.with_suffix(".json").read_text())
    assert record["notes"] == {"fp16_share": 0.9, "layers": 7}
    assert mismatches(plan, KEY) == []
    discard(plan)
    assert mismatches(plan, KEY) == ["not built yet"]
    assert not is_verified(plan, "Orin")


def _keep(folder, name, profile):
    key = dataclasses.replace(KEY, profile=profile)
    get_or_build(folder / name, key, lambda: (b"plan", {}))


def test_the_best_engine_that_fits_is_found(tmp_path):
    def shape(side):
        return (1, 4, side, side)

    def found(side, profile):
        key = dataclasses.replace(KEY, profile=profile)
        plan = find_plan(tmp_path, "d-*.engine", key, {"x": shape(side)})
        return plan and plan[0].name

    wide, middle = ({"x": tuple(map(shape, sides))} for sides in ((32, 64, 96), (64, 64, 64)))
    assert found(64, middle) is None
    _keep(tmp_path, "d-a.engine", wide)
    _keep(tmp_path, "other-d-a.engine", middle)
    assert found(64, middle) == "d-a.engine"
    _keep(tmp_path, "d-b.engine", middle)
    assert found(64, middle) == "d-b.engine"
    assert found(64, wide) == "d-a.engine"  # as was asked for
    assert found(32, {"x": (shape(32),) * 3}) == "d-a.engine"
    assert found(128, {"x": (shape(128),) * 3}) is None
    (tmp_path / "d-a.json").write_text("{")
    assert found(64, wide) == "d-b.engine"


@pytest.mark.parametrize("data", [b"", b"pla", b"plaN", b"plan of another size"])
def test_a_damaged_plan_is_found_and_built_again(tmp_path, data):
    plan = _stored(tmp_path)
    plan.write_bytes(data)
    os.utime(plan, ns=(1, 1))
    assert mismatches(plan, KEY) == ["the plan is damaged: its SHA-256 is not the recorded one"]
    assert get_or_build(plan, KEY, lambda: (b"plan", {}))
    assert mismatches(plan, KEY) == []


def test_a_plan_that_cannot_be_read_or_was_removed_meanwhile_is_not_taken(tmp_path, monkeypatch):
    plan = _stored(tmp_path)
    os.utime(plan, ns=(1, 1))

    def fail(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(cache, "sha256", fail)
    assert mismatches(plan, KEY) == ["the plan cannot be read: Permission denied"]
    shapes = {name: shapes[0] for name, shapes in KEY.profile.items()}
    assert find_plan(plan.parent, "denoiser*", KEY, shapes) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"format_version": 1}', "[" * 100_000, "\x00", '"key"', "null"]
)
def test_a_damaged_record_is_one_line(tmp_path, text):
    plan = _stored(tmp_path)
    plan.with_suffix(".json").write_text(text)
    (reason,) = mismatches(plan, KEY)
    assert "denoiser.json" in reason


def test_a_record_of_another_format_or_shape_is_refused(tmp_path):
    plan = _stored(tmp_path)
    record = json.loads(plan.with_suffix(".json").read_text())
    for change, field in (
        ({"format_version": 1}, "$.format_version"),
        ({"key": []}, "$.key"),
        ({"key": {**record["key"], "gpu": 7}}, "$.key.gpu"),
        ({"size": -1}, "$.size"),
        ({"sha256": "0"}, "$.sha256"),
    ):
        plan.with_suffix(".json").write_text(json.dumps({**record, **change}))
        (reason,) = mismatches(plan, KEY)
        assert f"`{field}`" in reason


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


BUILDER = """
import sys, time
from pathlib import Path
from dossr.runtime.engines.tensorrt.cache import EngineKey, get_or_build
folder, name, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
key = EngineKey({"a.onnx": "0"}, "tensorrt", "10.3.0", "Orin", ("8.7",), {"x": ((1,), (1,), (1,))}, ())
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


def test_one_process_builds_and_a_killed_one_releases_its_lock(tmp_path):
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


def test_a_waiting_process_uses_the_engine_of_the_first(tmp_path):
    first = _process(tmp_path, "first", 3)
    _wait_for(tmp_path / "building-first")
    second = _process(tmp_path, "second", 0)
    assert first.communicate(timeout=60)[0].splitlines()[-1] == "built"
    assert second.communicate(timeout=60)[0].splitlines()[-1] == "taken"
    assert not (tmp_path / "building-second").exists()


def test_the_files_are_beside_the_engine(tmp_path):
    plan = _stored(tmp_path)
    names = {path.name for path in Path(plan.parent).iterdir()}
    assert names == {"denoiser.engine", "denoiser.json", "denoiser.lock"}
