"""MkDocs hooks: find the package under its own name, and mend what mkdocs-click writes."""

from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "build" / "api" / "dossr"
SOURCES = ("__init__.py", "runtime", "solvers", "export")
UNSET = "`Sentinel.UNSET`"  # what mkdocs-click 0.9 shows for "no default" with click 8.3 or newer
EXAMPLES = "Examples:"


def on_config(config: Any) -> Any:
    """Link the documented rooms into a folder named ``dossr``, whatever the checkout is called.

    Mkdocstrings finds sources by the package's name, and reads them without an import.
    """
    PACKAGE.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        link = PACKAGE / name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / name)
    config["markdown_extensions"].append(CommandPages())
    return config


class CommandPages(Extension):
    """Show the examples of a command's help as code, and no default where there is none."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Run after mkdocs-click (priority 141) and before fenced code blocks (31)."""
        md.preprocessors.register(_CommandPages(md), "command-pages", 100)


class _CommandPages(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        found: list[str] = []
        is_example = False
        for line in lines:
            if is_example and not line.startswith("  "):
                is_example = False
                found.append("```")
            found.append(line.strip() if is_example else line.replace(UNSET, ""))
            if line == EXAMPLES:
                is_example = True
                found += ["", "```sh"]
        return found
