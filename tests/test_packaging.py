"""What is installed is what is in the checkout."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dossr
from dossr.runtime.engines.device import DEVICES

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


ENGINES = {
    "onnxruntime": {"cpu"},
    "onnxruntime-gpu": {"cuda"},
    "openvino": {"openvino"},
    "cupy-cuda12x": {"tensorrt-cu12", "jetpack6"},
    "cupy-cuda13x": {"cuda", "tensorrt", "tensorrt-rtx", "jetpack7"},
    "tensorrt-cu12": {"tensorrt-cu12"},
    "tensorrt-cu13": {"tensorrt"},
    "tensorrt-rtx": {"tensorrt-rtx"},
    "polygraphy": {"export", "tensorrt", "tensorrt-cu12", "tensorrt-rtx", "jetpack6", "jetpack7"},
}
"""The extras that a user may combine, by the engine's packages that they hold: no two of onnxruntime's or
CuPy's builds, which overwrite each other, and none of ONNX Runtime where another engine runs."""


def _names(requirements):
    return {re.match(r"[\w.-]+", text)[0].lower() for text in requirements}


def test_an_extra_holds_its_own_engine_and_no_other(project):
    extras = project["project"]["optional-dependencies"]
    for package, holders in ENGINES.items():
        assert {name for name in extras if package in _names(extras[name])} - {"dev"} == holders
    for name in set(extras) - {"bench", "dev"}:
        assert "dossr" not in _names(extras[name]), f"{name} brings another extra"
    assert [text for text in extras["bench"] if text.startswith("dossr")] == ["dossr[export]"]


def test_every_device_has_an_extra_and_every_extra_a_line_in_the_docs(project):
    extras = project["project"]["optional-dependencies"]
    assert {name.split(":")[0] for name in DEVICES} <= set(extras)
    page = (ROOT / "docs" / "devices.md").read_text()
    rows = re.findall(r"^\| `([\w,-]+)` \| (?:Linux|Windows)", page, re.MULTILINE)
    assert {name for row in rows for name in row.split(",")} == set(extras)


def test_a_command_without_its_packages_says_what_to_install(tmp_path):
    """Python without site-packages has none of them."""
    for name in ("click", "msgspec", "numpy", "PIL", "dossr"):
        where = Path(importlib.util.find_spec(name).origin).parent
        (tmp_path / name).symlink_to(ROOT if name == "dossr" else where)
    (tmp_path / "x.ckpt").write_bytes(b"")
    for module, arguments, extras in (
        ("dossr.export", ["x.ckpt", "-o", "b"], "export,cpu"),
        ("dossr.bench", ["accuracy"], "bench,cpu"),
    ):
        program = f"from {module} import main; main()"
        done = subprocess.run(
            [sys.executable, "-S", "-c", program, *arguments],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "No module named '" in done.stderr
        assert done.stderr.endswith(f"; install it with: pip install 'dossr[{extras}]'\n")


def test_every_script_is_a_command(project):
    for target in project["project"]["scripts"].values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    assert sys.version_info >= (3, 10)
