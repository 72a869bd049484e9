"""One process uses one library: TensorRT or TensorRT-RTX."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, types
sys.modules["tensorrt"] = types.ModuleType("tensorrt")
from dossr.runtime.engines.tensorrt.library import select_library, selected_library
from dossr.runtime.errors import EngineError
try:
    for name in sys.argv[1:]:
        select_library(name)
        print(selected_library())
except EngineError as error:
    print(error)
"""


def _select(*names, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_library_is_selected_as_often_as_one_likes(name):
    assert _select(name, name) == [name, name]


@pytest.mark.parametrize("names", [("tensorrt", "tensorrt-rtx"), ("tensorrt-rtx", "tensorrt")])
def test_a_second_choice_is_one_line(names):
    first, line = _select(*names)
    assert first == names[0]
    assert f"this one uses {names[0]}; start another process for {names[1]}" in line


def test_the_environment_does_not_choose(monkeypatch):
    monkeypatch.setenv("POLYGRAPHY_USE_TENSORRT_RTX", "1")
    assert _select("tensorrt") == ["tensorrt"]


def test_a_library_that_is_not_installed_is_named():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace('sys.modules["tensorrt"] =', "_ ="), "tensorrt"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "No module named 'tensorrt'" in done.stderr
