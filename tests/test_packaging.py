"""What is installed is what is in the checkout."""

import sys
from pathlib import Path

import pytest

import dossr

ROOT = Path(dossr.__file__).parent

tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")


@pytest.fixture(scope="module")
def project():
    path = ROOT / "pyproject.toml"
    if not path.is_file():
        pytest.skip("dossr is installed without its checkout")
    return tomllib.loads(path.read_text())


def test_every_package_is_listed(project):
    rooms = ("solvers", "runtime", "export", "bench")
    found = {
        ".".join(("dossr", *path.parent.relative_to(ROOT).parts))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found | {"dossr"}


def test_every_data_file_is_listed(project):
    patterns = project["tool"]["setuptools"]["package-data"]["dossr"]
    listed = {path for pattern in patterns for path in ROOT.glob(pattern)}
    rooms = ("solvers", "runtime", "export", "bench")
    found = {path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()}
    assert not {p for p in found if p.suffix not in (".py", ".pyc")} - listed


def test_the_base_install_is_light(project):
    names = {requirement.split(">")[0] for requirement in project["project"]["dependencies"]}
    assert names == {"numpy", "pillow", "click", "msgspec"}


def test_every_script_is_a_command(project):
    import importlib

    for target in project["project"]["scripts"].values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    assert sys.version_info >= (3, 10)
