"""The wheel holds everything that the commands need, and nothing of the checkout."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import dossr

ROOT = Path(dossr.__file__).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built by setuptools as `make dist` does."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("dossr is installed without its checkout")
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        out,
        _copy(out),
    ]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def _copy(folder):
    """The files that git tracks or would, so that building leaves nothing in the checkout."""
    source = folder / "source"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("the checkout is not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A Python in which the wheel is installed; its dependencies come from this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    venv.create(folder)
    interpreter = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        interpreter,
        "install",
        "--quiet",
        "--no-deps",
        wheel,
    ]
    done = subprocess.run([*map(str, install)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return interpreter


def test_the_wheel_holds_every_module_and_data_file_and_no_test(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    rooms = ("solvers", "runtime", "export", "bench")
    wanted = {path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()}
    wanted = {path.relative_to(ROOT) for path in wanted if "__pycache__" not in path.parts}
    assert {f"dossr/{path.as_posix()}" for path in wanted} <= names
    assert "dossr/py.typed" in names
    assert not [name for name in names if name.startswith(("dossr/tests", "dossr/docs"))]


def test_the_installed_wheel_upscales_an_image(python, tmp_path):
    Image.new("RGB", (8, 8), (90, 120, 30)).save(tmp_path / "in.png")
    where = [python, "-c", "import dossr; print(dossr.__file__)"]
    done = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(python.parent.parent)
    run = [python.with_name("dossr-run"), "in.png", "-o", "out.png", "--steps", "1"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (32, 32)


@pytest.mark.parametrize("command", ["dossr-run", "dossr-export", "dossr-bench", "dossr-doctor"])
def test_every_command_of_the_wheel_answers(python, tmp_path, command):
    run = [python.with_name(command), "--help"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: {command} ")
