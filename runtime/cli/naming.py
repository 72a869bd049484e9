"""Names of results: as their sources, and different where two would be the same."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..images.formats import WRITABLE
from ..images.kinds import IMAGE_SUFFIXES
from .search import Found, same_name

IN_PLACE = "_upscaled"
"""Added to the names of results beside their sources."""


@dataclass(frozen=True)
class Naming:
    """How results in a folder are named."""

    format: str = ".png"
    """Suffix of the format."""

    suffix: str = ""
    """Added to the stem."""

    keeps_pages: bool = False
    """Whether TIFF files of several pages stay TIFF files."""

    def name(self, source: Path, *, full: bool = False, number: int = 0) -> str:
        """Return the name of a source's result; ``full`` keeps the source's own suffix in it."""
        counted = f"_{number}" if number else ""
        return f"{source.name if full else stem(source)}{counted}{self.suffix}{self.format}"

    def is_result(self, path: Path, siblings: set[str]) -> bool:
        """Return whether a file's name is one that a source among its siblings gives.

        ``siblings``: the names of the files in its folder, as ``same_name`` gives them.
        """
        own = stem(path)
        base = own.removesuffix(self.suffix)
        if not self.suffix or base == own:
            return False
        sources = {same_name(Path(name)) for name in (base, re.sub(r"_\d+$", "", base))}
        return bool(sources & siblings)


def stem(path: Path) -> str:
    """Return a name without the suffix of an image format; other suffixes belong to the name."""
    known = path.suffix.lower() in IMAGE_SUFFIXES or path.suffix.lower() in WRITABLE
    return path.stem if known else path.name


@dataclass(frozen=True)
class Named:
    """A found image with the folder of its result."""

    item: Found
    folder: Path
    naming: Naming

    def target(self, *, full: bool = False, parent: bool = False, number: int = 0) -> Path:
        """Return the path of the result."""
        folder = self.folder
        if parent and self.item.root is None and self.item.path:
            folder = folder / _full(self.item.path).parent.name
        return folder / self.naming.name(self.item.relative, full=full, number=number)


def targets(named: Sequence[Named]) -> list[Path]:
    """Return a different path for each result; as the source where nothing clashes.

    Names that differ in case only clash too, and so do a file and a folder of one name.
    """
    found = [item.target() for item in named]
    groups: dict[str, list[int]] = {}
    for index, path in enumerate(found):
        groups.setdefault(same_name(path), []).append(index)
    folders = {same_name(parent) for path in found for parent in path.parents}
    taken = set(groups) | folders
    for key, group in groups.items():
        if len(group) > 1 or key in folders:
            spelled = _spelled([named[index] for index in group], (taken - {key}) | folders)
            for index, path in zip(group, spelled, strict=True):
                found[index] = path
            taken |= {same_name(found[index]) for index in group}
    return found


def _spelled(group: Sequence[Named], taken: set[str]) -> list[Path]:
    """Return the first spelling that makes all names of a group different from each other.

    The source's suffix is kept in the name (``a.jpg.png``); or the results of files given by name go
    to a folder named as the source's; or both; or they are numbered.
    """
    ways: tuple[Callable[[Named], Path], ...] = (
        lambda item: item.target(full=True),
        lambda item: item.target(parent=True),
        lambda item: item.target(full=True, parent=True),
    )
    for way in ways:
        paths = [way(item) for item in group]
        keys = {same_name(path) for path in paths}
        if len(keys) == len(group) and not keys & taken:
            return paths
    return list(_numbered(group, set(taken)))


def _numbered(group: Sequence[Named], taken: set[str]) -> Iterator[Path]:
    for item in group:
        number, path = 0, item.target()
        while same_name(path) in taken:
            number = max(number + 1, 2)
            path = item.target(number=number)
        taken.add(same_name(path))
        yield path


def root_names(roots: Sequence[Path]) -> dict[Path, Path]:
    """Return a relative path for each input folder: as many of its last parts as make it unique."""
    parts = {root: _full(root).parts[1:] for root in roots}
    names: dict[Path, Path] = {}
    for root, own in parts.items():
        others = [other for key, other in parts.items() if key != root]
        length = 1
        while length < len(own) and any(_tail(own, length) == _tail(o, length) for o in others):
            length += 1
        names[root] = Path(*own[-length:])
    return names


def _full(path: Path) -> Path:
    """Return an absolute path whose parts are names; links stay where no ``..`` follows them."""
    return path.resolve() if ".." in path.parts else path.absolute()


def _tail(parts: tuple[str, ...], length: int) -> str:
    return same_name(Path(*parts[-length:]))
