"""What a run on a cluster reads and how its results are named: paths, folders, lists and URIs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import click
from pyarrow import fs

from ..cli.arguments import is_list, is_uri
from ..cli.jobs import find_jobs, own_naming
from ..cli.naming import Named, Naming, root_names, targets
from ..cli.output import Output
from ..cli.search import STREAM, Found, PassedOver, Search, count_text
from ..images.formats import WRITABLE
from ..images.kinds import IMAGE_SUFFIXES
from .places import Place, find_place

_LARGEST_LIST = 1 << 30  # bytes


@dataclass(frozen=True)
class Item:
    """An image and where its result goes, below OUT."""

    source: Place
    target: str


@dataclass
class Inputs:
    """The images of a run, and what is left out of it."""

    items: list[Item] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    """What cannot be read or named, and why."""

    renamed: int = 0
    """Images whose result has another name than usual, because names clashed."""

    def add(self, source: Place, target: str) -> None:
        """Add an image, or the reason why the manifest cannot name it."""
        try:
            f"{source.name}{target}".encode()
        except UnicodeEncodeError:
            self.failures.append(
                (source.name, f"{source.name} must have a name in UTF-8; rename it")
            )
        else:
            self.items.append(Item(source, target))


def find_inputs(texts: Sequence[str], output: Place, naming: Naming) -> Inputs:
    """Return the images and the names of their results.

    Local images are searched as ``dossr-run`` does, by content; below a URI, files with the suffix of an
    image are taken. Raise click.UsageError if there are none or one would be replaced, and PlaceError
    for what cannot be listed.
    """
    given = list(_expanded(texts))
    if not given:
        raise click.UsageError(f"no images in {_shown(texts)}: nothing is listed")
    local = [_path(text) for text in given if not _is_remote(text)]
    if output.is_local and len(local) == len(given):
        return _local_inputs(local, Path(output.path), naming)
    search = Search(Path(output.path) if output.is_local else None)
    search.add(local)
    inputs = Inputs(passed_over=search.passed_over)
    inputs.failures += [(str(path), f"{path} {why}") for path, why in search.failures]
    found = [(item, find_place(str(item.path))) for item in search.found]
    roots = {root: find_place(str(root)) for root in search.roots}
    for place in map(find_place, filter(_is_remote, given)):
        found += _remote_files(place, output, inputs, roots)
    if not found and not inputs.failures:
        passed = f"; passed over: {count_text(inputs.passed_over)}" if inputs.passed_over else ""
        raise click.UsageError(f"no images in {_shown(texts)}{passed}")
    _add_items(inputs, found, roots, output, naming)
    return inputs


def find_output(text: str) -> Place:
    """Return the folder of the results; raise click.UsageError if it cannot be one."""
    if not text or text == STREAM:
        raise click.UsageError(f"-o must be a folder or a URI with --ray, got '{text}'")
    place = find_place(text)
    if PurePosixPath(place.path).suffix.lower() in WRITABLE and not text.endswith("/"):
        raise click.UsageError(
            f"-o must be a folder with --ray, got {place.name}; give {place.name}/ if you mean a folder"
        )
    if place.kind() == "file":
        raise click.UsageError(f"-o must be a folder with --ray, and {place.name} is a file")
    _check_bucket(place)
    return place


def _check_bucket(place: Place) -> None:
    """Raise click.UsageError for a bucket that does not exist."""
    if place.system.type_name not in ("s3", "gcs", "abfs"):
        return
    bucket = place.path.partition("/")[0]
    scheme = place.name.partition("://")[0]
    root = Place(place.system, bucket, f"{scheme}://{bucket}")
    if not root.kind():
        raise click.UsageError(f"{root.name} does not exist; create the bucket first")


def _is_remote(text: str) -> bool:
    return is_uri(text) and not text.startswith("file://")


def _path(text: str) -> str:
    return find_place(text).path if is_uri(text) else text


def _shown(texts: Iterable[str]) -> str:
    """Return inputs as the user gave them, without credentials."""
    names = []
    for text in texts:
        sign = "@" if is_list(text) else ""
        names.append(sign + find_place(text.removeprefix(sign)).name)
    return ", ".join(names)


def _expanded(texts: Iterable[str]) -> Iterator[str]:
    """Yield the inputs, and the lines of those that are lists."""
    for text in texts:
        if text == STREAM:
            raise click.UsageError("--ray reads files and URIs, not standard input")
        if not is_list(text):
            yield text
            continue
        place = find_place(text[1:])
        try:
            lines = place.read(_LARGEST_LIST).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"{place.name} must be a list in UTF-8: {error}") from error
        found = list(filter(None, map(str.strip, lines)))
        if STREAM in found:
            raise click.UsageError(f"{place.name} has a line -; --ray does not read standard input")
        yield from found


def _local_inputs(paths: Sequence[str], folder: Path, naming: Naming) -> Inputs:
    """Return the images and names of ``dossr-run`` itself."""
    plan = find_jobs(paths, Output(naming.format, folder=folder), naming)
    failures = [(job.name, why) for job, why in plan.failures]
    inputs = Inputs([], list(plan.passed_over), failures, len(plan.renamed))
    for job in plan.jobs:
        if job.target:
            inputs.add(find_place(str(job.source)), job.target.relative_to(folder).as_posix())
    return inputs


def _remote_files(
    place: Place, output: Place, inputs: Inputs, roots: dict[Path, Place]
) -> list[tuple[Found, Place]]:
    """Return the images at a URI: the file itself, or all files of a folder with a suffix of an image.

    A name with such a suffix is taken for a file without asking, so that long lists begin at once.
    """
    _check_known_bucket(place)
    path = PurePosixPath(place.name.partition("://")[2])
    if path.suffix.lower() in IMAGE_SUFFIXES or place.kind() == "file":
        return [(Found(Path("/", path), Path(path.name)), place)]
    root = Path("/", path)
    roots[root] = place
    found = []
    holds_results = place.contains(output)
    for name in place.files():
        if holds_results and output.contains(place.below(name)):
            continue
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            found.append((Found(root / name, Path(name), root), place.below(name)))
        else:
            what = suffix or "file without a suffix"
            inputs.passed_over.append(PassedOver(Path(place.below(name).name), what))
    return found


_known: set[tuple[int, str]] = set()


def _check_known_bucket(place: Place) -> None:
    """Check the bucket of an input once for all of its files."""
    key = (id(place.system), place.path.partition("/")[0])
    if key not in _known:
        _check_bucket(place)
        _known.add(key)


def _add_items(
    inputs: Inputs,
    found: Sequence[tuple[Found, Place]],
    roots: Mapping[Path, Place],
    output: Place,
    naming: Naming,
) -> None:
    """Name the results as in a folder of ``dossr-run``.

    Raise click.UsageError if one would be a source, of this run or of the next one.
    """
    unique: dict[tuple[int, str], tuple[Found, Place]] = {}
    for each in found:
        unique.setdefault(each[1].identity, each)
    distinct = list(unique.values())
    names = root_names(list(roots)) if len(roots) > 1 else {}
    named = [
        Named(item, (names.get(item.root, Path()) if item.root else Path()) / item.relative.parent,
              own_naming(item, naming))
        for item, _ in distinct
    ]  # fmt: skip
    paths = targets(named)
    _check_apart(paths, roots.values(), output)
    for one, (_, place), path in zip(named, distinct, paths, strict=True):
        target = path.as_posix()
        if output.below(target).identity in unique:
            raise click.UsageError(
                f"{output.below(target).name} is an input and would be replaced; give another folder "
                "or --suffix"
            )
        inputs.renamed += path != one.target()
        inputs.add(place, target)


def _check_apart(paths: Iterable[Path], roots: Iterable[Place], output: Place) -> None:
    """Raise click.UsageError if results would lie in an input folder, where a rerun takes them for images.

    An input folder around OUT is no fault: OUT is left out of the search.
    """
    searched = {root.identity for root in roots}
    for folder in sorted({parent for path in paths for parent in path.parents}):
        place = output.below("" if folder == Path() else folder.as_posix())
        if place.identity in searched:
            raise click.UsageError(
                f"{place.name} is an input, and a rerun would upscale the results in it; give another folder"
            )


def existing(items: Sequence[Item], output: Place) -> set[str]:
    """Return the targets that exist: asked one by one on a disk, listed in a store."""
    if isinstance(output.system, fs.LocalFileSystem):
        folder = Path(output.path)
        return {item.target for item in items if (folder / item.target).exists()}
    return set(output.files())
