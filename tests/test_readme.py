"""The README promises what the commands do."""

import re
from pathlib import Path

import pytest

import dossr
from dossr.export.cli import main as export
from dossr.runtime.cli import main as run

ROOT = Path(dossr.__file__).parent
COMMANDS = {"dossr-export": export, "dossr-run": run}


@pytest.fixture(scope="module")
def readme():
    path = ROOT / "README.md"
    if not path.is_file():
        pytest.skip("dossr is installed without its checkout")
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_shown_are_the_options_there_are(readme, name):
    """In every line that starts with the command, and in the lines that go on below it."""
    shown = set()
    for block in re.findall(rf"^    {name}.*\n(?:     +.*\n)*", readme, re.MULTILINE):
        shown |= set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", block.split("  #")[0]))
    options = [param.opts for param in COMMANDS[name].params if param.opts[0].startswith("-")]
    assert shown <= {spelling for spellings in options for spelling in spellings}
    hidden = [spellings for spellings in options if not shown & set(spellings)]
    assert hidden == [["--version"]] or hidden == [["--device"], ["--version"]]


def test_the_make_targets_and_links_exist(readme):
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", readme):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`((?:export|runtime|solvers|tests)/[\w./]*)`", readme):
        assert (ROOT / path).exists(), path


def test_the_python_example_runs(readme, toy_bundle, tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("photo.jpg")
    (tmp_path / "bundle").symlink_to(toy_bundle)
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["hr"].shape == (32, 32, 3)
