"""The house: four floors, and imports that run downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dossr

ROOT = Path(dossr.__file__).parent
FLOORS = ("solvers", "runtime", "export", "bench")
BLOCKED = "import sys\nfor name in ('torch', 'diffusers', 'transformers', 'onnx'):\n    sys.modules[name] = None\n"


def _imported_rooms(path):
    """The rooms of this package that a file imports, by relative or absolute import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            depth = len(path.relative_to(ROOT).parts)
            if node.level == depth:  # the package itself
                yield from parts[:1] or [alias.name for alias in node.names]
            elif node.level == 0 and parts[0] == "dossr":
                yield from parts[1:2] or [alias.name for alias in node.names]
            elif node.level > depth:
                yield "outside"
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("dossr."))


@pytest.mark.parametrize("room", FLOORS)
def test_imports_run_downwards_only(room):
    allowed = {*FLOORS[: FLOORS.index(room) + 1], "__version__"}
    for path in (ROOT / room).rglob("*.py"):
        assert set(_imported_rooms(path)) <= allowed, path


@pytest.mark.parametrize(
    "package", ["dossr.solvers", "dossr.runtime", "dossr.runtime.engines.onnxruntime.session"]
)
def test_imports_without_torch(package):
    program = f"{BLOCKED}import {package}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_are_exported():
    import dossr.export
    import dossr.runtime
    import dossr.solvers

    for room in (dossr.solvers, dossr.runtime, dossr.export):
        assert all(hasattr(room, name) for name in room.__all__)
        assert sorted(room.__all__) == list(room.__all__)
