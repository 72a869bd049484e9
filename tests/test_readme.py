"""README and docs promise what the commands do, and lead somewhere."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import dossr
from dossr.bench.cli import main as bench
from dossr.export.cli import main as export
from dossr.runtime.cli import main as run
from dossr.runtime.doctor import main as doctor

ROOT = Path(dossr.__file__).parent
COMMANDS = {"dossr-export": export, "dossr-run": run, "dossr-doctor": doctor}
COMMANDS |= {f"dossr-bench {name}": command for name, command in bench.commands.items()}
SYNOPSES = {"dossr-export": "docs/export.md", "dossr-run": "docs/run.md"}
MAX_WORDS = 900  # of README, as wc counts them
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")

if not (ROOT / "README.md").is_file():
    pytest.skip("dossr is installed without its checkout", allow_module_level=True)

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
}
WRITTEN = {name: text for name, text in PAGES.items() if not name.startswith("docs/results/")}
TEXT = "\n".join(WRITTEN.values())
EXAMPLES = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in WRITTEN.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
]


def _code_lines(text):
    """Lines in fenced or indented code, each joined with the lines that go on below it."""
    fenced = re.findall(r"^( *)```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    code = [block for _, block in fenced] + re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    for block in code:
        lines = re.sub(r"\\\n *", " ", block)
        lines = re.sub(r"\n {6,}(?=\S)", " ", lines)
        yield from (line.split("  #")[0].strip() for line in lines.splitlines())


def _shown(command, text):
    """The options in every line of code that starts with the command."""
    lines = [line for line in _code_lines(text) if re.match(rf"{command}( |$)", line)]
    return set(_OPTION.findall("\n".join(lines)))


def _options(command):
    return [
        [*param.opts, *param.secondary_opts]
        for param in command.params
        if param.opts[0].startswith("-")
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_shown_are_options_that_exist(name):
    options = {spelling for spellings in _options(COMMANDS[name]) for spelling in spellings}
    assert _shown(name, TEXT) <= options


@pytest.mark.parametrize("name", SYNOPSES)
def test_a_synopsis_shows_every_option(name):
    shown = _shown(name, PAGES[SYNOPSES[name]])
    hidden = [spellings for spellings in _options(COMMANDS[name]) if not shown & set(spellings)]
    assert hidden == [["--version"]]


@pytest.mark.parametrize(
    ("argument", "extra"),
    [("--(device|backend) openvino", "openvino"), ("--engine tensorrt-rtx:", "tensorrt-rtx")],
)
def test_a_page_installs_what_its_commands_need(argument, extra):
    for name, text in WRITTEN.items():
        lines = [line for line in _code_lines(text) if re.match(rf"dossr-.* {argument}", line)]
        installs = re.search(rf"pip install '[^'\n]*[\[,]{extra}[\],]", text)
        assert not lines or installs, (name, lines[0])


def test_no_command_of_a_page_meets_the_image_of_another():
    """A run stops where its result exists, so a reader who types every command would be stuck."""
    for name, text in WRITTEN.items():
        runs = [line for line in _code_lines(text) if line.startswith("dossr-run ")]
        runs = [line for line in runs if not re.search("--overwrite|--skip-existing|--ray", line)]
        names = re.findall(r" -o (\S+[^-\s])(?= |$)", "\n".join(runs), re.MULTILINE)
        assert len(set(names)) == len(names), (name, names)


def test_every_command_is_shown():
    for name in COMMANDS:
        assert any(line.startswith(name) for line in _code_lines(TEXT)), name


def test_the_subcommands_shown_exist():
    shown = {
        found[1] for line in _code_lines(TEXT) if (found := re.match(r"dossr-bench ([\w-]+)", line))
    }
    assert shown == set(bench.commands)


def test_the_modules_shown_exist_and_take_the_options_shown():
    lines = [re.sub(r"^(\w+=\S+ )+", "", line) for line in _code_lines(TEXT)]
    lines = [line for line in lines if line.startswith("python -m dossr")]
    assert lines
    for line in lines:
        name = line.split()[2]
        is_package = importlib.util.find_spec(name).submodule_search_locations is not None
        command = importlib.import_module(f"{name}.__main__" if is_package else name).main
        options = {spelling for spellings in _options(command) for spelling in spellings}
        assert set(_OPTION.findall(line.removeprefix("python -m"))) <= options, line


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_and_image_exists(name):
    folder = (ROOT / name).parent
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[name]):
        assert (folder / link).exists(), link


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^    |^)make ([a-z]+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


@pytest.mark.parametrize("name", WRITTEN)
def test_the_paths_named_exist(name):
    for path in re.findall(
        r"`((?:bench|docs|export|runtime|solvers|tests)/[\w./-]*)`", PAGES[name]
    ):
        assert (ROOT / path).exists(), path


def test_the_files_of_the_map_exist():
    """The map of CONTRIBUTING names files and folders in their room's own section."""
    sections = re.findall(
        r"^### `(\w+)/`.*?\n(.*?)(?=^##)", PAGES["CONTRIBUTING.md"], re.MULTILINE | re.DOTALL
    )
    rooms = {"solvers", "runtime", "export", "bench"}
    assert {room for room, _ in sections} >= rooms
    for room, section in ((room, text) for room, text in sections if room in rooms):
        for name in re.findall(r"`([\w/]+\.py|[\w/]+/)`", section):
            assert (ROOT / room / name).exists() or list((ROOT / room).rglob(name)), (
                f"{room}/{name}"
            )


def test_the_readme_is_short():
    assert len(PAGES["README.md"].split()) <= MAX_WORDS


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_python_examples_run(example, toy_bundle, tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("photo.jpg")
    (tmp_path / "bundle").symlink_to(toy_bundle)
    names = {}
    exec(compile(example, "example.py", "exec"), names)
    if "hr" in names:
        assert names["hr"].shape == (32, 32, 3)


def test_readme_has_a_python_example():
    assert len(re.findall(r"```python\n", PAGES["README.md"])) == 1
