"""Find the images among the inputs: each file once, everything else counted."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from ..files import is_unfinished
from ..images.kinds import Kind, classify

STREAM = "-"
"""As an input: standard input. As the output: standard output."""

_SYSTEM_FOLDERS = frozenset(
    {
        "#recycle",
        "$recycle.bin",
        ".@__thumb",
        ".git",
        ".spotlight-v100",
        ".thumbnails",
        ".trashes",
        "@eadir",
        "@recycle",
        "__macosx",
        "system volume information",
    }
)
"""Folders in which a system keeps deleted files, previews and copies of metadata; others start as the next."""

_TRASH = ".trash-"
"""Start of a folder of deleted files on each disk of a Linux system; the user's number follows."""

_OF_PHONES = (".heic", ".heif", ".hif", ".jxl")

_REPEATED_FOLDER = "link to a folder that is searched already"
RESULT = "result of an earlier run"
_PLURALS = {
    "sidecar": "sidecars",
    "repeat": "repeats",
    "special file": "special files",
    "empty file": "empty files",
    "system folder": "system folders",
    "broken link": "broken links",
    _REPEATED_FOLDER: "links to folders that are searched already",
    RESULT: "results of an earlier run",
}

Identity = tuple[int, int, str]


@dataclass(frozen=True)
class Found:
    """An image among the inputs."""

    path: Path | None
    """As the user spelled it, or below such a folder; None: standard input."""

    relative: Path
    """Below its input folder; the name alone for an input that is a file."""

    root: Path | None = None
    """Its input folder; None for an input that is a file."""

    kind: str = ""
    """Its format, as ``Kind.name``."""

    real: Path | None = None
    """The resolved path."""


@dataclass(frozen=True)
class PassedOver:
    """A file or folder that is not read, and why."""

    path: Path
    what: str
    """What it is, to be counted: ``.heic`` or ``sidecar``."""

    remedy: str | None = None


@dataclass
class Search:
    """The images of a run, and what is left out of it."""

    output: Path | None
    """A folder that is not searched if it lies inside an input."""

    found: list[Found] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    """What should be read and cannot be, and why."""

    roots: list[Path] = field(default_factory=list)
    """The input folders, each once."""

    folders: set[Path] = field(default_factory=set)
    """The resolved path of every folder that was searched."""

    _real_folders: dict[Path, Path] = field(default_factory=dict)

    def add(self, inputs: Sequence[str]) -> None:
        """Search the inputs in order. Raise click.UsageError for one that is neither file nor folder."""
        for text in inputs:
            path = Path(text)
            if text == STREAM:
                self.found.append(Found(None, Path("stdin")))
            elif path.is_dir():
                self._add_folder(path)
            elif path.is_file() or path.is_fifo():
                self._add_file(path)
            else:
                raise click.UsageError(f"{path} must be an image file or a folder")
        self._drop_repeats()

    def _add_file(self, path: Path) -> None:
        """Add a file given by name. One that is no image fails later, with the reason."""
        kind = None if path.is_fifo() else _kind(path)
        if kind and kind.role in ("sidecar", "unfinished"):
            self._pass_over(path, kind)
        else:
            self.found.append(self._found(path, Path(path.name), None, kind))

    def _add_folder(self, root: Path) -> None:
        """Search a folder: its own folders first, then those that links lead to."""
        if _real(root) not in self.folders:
            self.roots.append(root)
        found: list[Found] = []
        pending, links = [root], list[Path]()
        while pending or links:
            folder = pending.pop() if pending else links.pop(0)
            if not self._enter(folder, is_input=folder == root):
                continue
            for path in self._listed(folder):
                if _is_folder(path):
                    self._queue(path, pending, links)
                elif _is_broken_link(path):
                    self.passed_over.append(PassedOver(path, "broken link"))
                elif (kind := _kind(path)) is None or kind.role == "image":
                    found.append(self._found(path, path.relative_to(root), root, kind))
                else:
                    self._pass_over(path, kind)
        self.found += sorted(found, key=lambda item: item.relative)

    def _queue(self, folder: Path, pending: list[Path], links: list[Path]) -> None:
        name = folder.name.lower()
        if name in _SYSTEM_FOLDERS or name.startswith(_TRASH):
            self.passed_over.append(PassedOver(folder, "system folder"))
        elif not is_unfinished(folder):
            (links if folder.is_symlink() else pending).append(folder)

    def _enter(self, folder: Path, is_input: bool) -> bool:
        """Return whether to search a folder: not twice, and not the output inside an input."""
        real = _real(folder)
        if real in self.folders:
            if folder.is_symlink() and not is_input:
                self.passed_over.append(PassedOver(folder, _REPEATED_FOLDER))
            return False
        if real == self.output and not is_input:
            return False
        self.folders.add(real)
        return True

    def _listed(self, folder: Path) -> Iterator[Path]:
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            self.failures.append((folder, f"cannot be read: {error.strerror}"))
            return
        yield from (folder / name for name in names)

    def real_folder(self, path: Path) -> Path:
        """Return the resolved path of a folder; each is resolved once."""
        if path not in self._real_folders:
            self._real_folders[path] = _real(path)
        return self._real_folders[path]

    def _found(self, path: Path, relative: Path, root: Path | None, kind: Kind | None) -> Found:
        real = _real(path) if path.is_symlink() else self.real_folder(path.parent) / path.name
        return Found(path, relative, root, kind.name if kind else "", real)

    def _pass_over(self, path: Path, kind: Kind) -> None:
        if kind.role == "unfinished":  # of a run that was killed, or that goes on
            return
        suffix = path.suffix.lower()
        what = {"sidecar": "sidecar", "refused": kind.name}.get(kind.role, suffix or kind.name)
        if kind.role == "missing" and suffix not in _OF_PHONES:
            what = kind.name
        self.passed_over.append(PassedOver(path, what, kind.remedy))

    def _drop_repeats(self) -> None:
        """Keep one name of each file: the first that is no link, else the first."""
        groups: dict[Identity | int, list[Found]] = {}
        for item in self.found:
            groups.setdefault(_identity(item), []).append(item)
        kept = {
            id(min(group, key=_is_link) if group[1:] else group[0]) for group in groups.values()
        }
        for item in self.found:
            if id(item) not in kept and item.path is not None:
                self.passed_over.append(PassedOver(item.path, "repeat"))
        self.found = [item for item in self.found if id(item) in kept]


def count_text(passed_over: Sequence[PassedOver]) -> str:
    """Return what was passed over as one line, such as ``3 .heic (pip install ...), 2 sidecars``."""
    counts = Counter((item.what, item.remedy) for item in passed_over)
    return ", ".join(
        f"{number} {_PLURALS.get(what, what) if number > 1 else what}"
        f"{f' ({remedy})' if remedy else ''}"
        for (what, remedy), number in sorted(counts.items(), key=lambda pair: -pair[1])
    )


def same_name(path: Path) -> str:
    """Return a key that is equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _kind(path: Path) -> Kind | None:
    """Return what a file is; None if it cannot be opened."""
    try:
        return classify(path)
    except OSError:
        return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # its folder may be listed but not entered
        return False


def _is_broken_link(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except OSError:
        return False


def _is_link(item: Found) -> bool:
    """Return whether a file is reached through a link."""
    path = item.path
    return path is not None and any(part.is_symlink() for part in (path, *path.parents))


def _identity(item: Found) -> Identity | int:
    """Return a key of a file that is the same for every spelling of its path, but not for hard links."""
    if item.real is None:
        return 0
    try:
        status = item.real.stat()
    except OSError:
        return 0, 0, str(item.real)
    return status.st_dev, status.st_ino, same_name(item.real)
