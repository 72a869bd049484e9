"""What ``-o OUT`` means: a file, a folder or standard output."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..images.formats import WRITABLE
from .search import STREAM

DEFAULT = ".png"
_FORMAT = re.compile(r"\.[a-z][a-z0-9]{1,4}", re.IGNORECASE)  # not .05 in 2024.01.05


@dataclass(frozen=True)
class Output:
    """Where results go: ``folder`` or ``file``, or neither for standard output."""

    suffix: str
    """Suffix of the format that is written."""

    folder: Path | None = None
    file: Path | None = None

    @property
    def is_stdout(self) -> bool:
        """Whether the one result goes to standard output."""
        return self.folder is None and self.file is None


def parse_output(text: str, inputs: Sequence[str], format: str | None, added: str) -> Output:
    """Return what an output means for these inputs; raise click.UsageError if it fits none of them.

    ``format``: the suffix of ``--format``, if given. ``added``: the text of ``--suffix``.
    """
    if not text:
        raise click.UsageError("-o must be a file or a folder, and it is empty")
    is_one_file = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if text in (STREAM, "/dev/stdout"):
        _check_stdout(is_one_file)
        return Output(format or DEFAULT)
    path = Path(text)
    is_folder = path.is_dir() or text.endswith(tuple(filter(None, (os.sep, os.altsep))))
    if is_one_file and not is_folder:
        return _file(path, format, added)
    if path.exists() and not path.is_dir():
        raise click.UsageError(f"{path} must be a folder for these inputs, and it is a file")
    if not is_folder and path.suffix.lower() in WRITABLE:
        raise click.UsageError(
            f"{path} must be a folder for these inputs, and its name is that of a file; "
            f"give {path}{os.sep} if you mean a folder"
        )
    return Output(format or DEFAULT, folder=path)


def _check_stdout(is_one_file: bool) -> None:
    if not is_one_file:
        raise click.UsageError("-o - takes the result of one image file; give a folder")
    if sys.stdout.isatty():
        raise click.UsageError(
            "-o - writes an image, and standard output is a terminal; redirect it"
        )


def _file(path: Path, format: str | None, added: str) -> Output:
    """Return the output file; one without a known format gets a suffix."""
    kind = WRITABLE.get(path.suffix.lower())
    if kind is None:
        if format is None and _FORMAT.fullmatch(path.suffix):
            raise click.UsageError(
                f"cannot write {path}: '{path.suffix}' is not a supported format; "
                f"try {path.with_suffix(DEFAULT).name}"
            )
        suffix = format or DEFAULT
        return Output(suffix, file=path.with_name(f"{path.name}{added}{suffix}"))
    if format is not None and WRITABLE[format].name != kind.name:
        raise click.UsageError(
            f"--format {format[1:]} contradicts the name {path}; give one of both"
        )
    if added:
        raise click.UsageError(
            f"--suffix is for folders and for names without a format, got {path}; leave it out"
        )
    return Output(path.suffix.lower(), file=path)
