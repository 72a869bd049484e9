"""What a run reads and writes, decided before any work."""

import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from ..errors import ImageError
from ..images.reader import count_frames
from ..seeds.request import MARK, SeedsRequest
from .naming import IN_PLACE, Named, Naming, root_names, stem, targets
from .output import Output
from .search import RESULT, Found, PassedOver, Search, count_text, same_name

_LONGEST_STREAM = 1 << 30  # bytes of standard input
_CHUNK = 1 << 20  # bytes of it that are read at once
_LONGEST_NAME = 255  # bytes, on nearly every file system
_TOO_LONG = f"would give a result with a name above {_LONGEST_NAME} bytes; rename it"


@dataclass(frozen=True)
class Job:
    """One image to read and the file to write."""

    source: Path | None
    """None: standard input."""

    target: Path | None
    """None: standard output."""

    files: tuple[Path, ...] = ()
    """All files that are written, where there may be others than the target."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files to write; none for standard output."""
        return self.files or ((self.target,) if self.target else ())

    @property
    def name(self) -> str:
        """The source as messages show it."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        """The target as messages show it."""
        return "standard output" if self.target is None else str(self.target)

    @property
    def suffix(self) -> str | None:
        """Suffix of the format to write; None: that of the run."""
        return self.target.suffix if self.target else None

    @property
    def is_done(self) -> bool:
        """Whether every output exists."""
        return bool(self.outputs) and all(path.exists() for path in self.outputs)

    @property
    def is_stream(self) -> bool:
        """Whether the source can be read only once: standard input or a pipe."""
        return self.source is None or self.source.is_fifo()

    def opened(self) -> Path | BinaryIO:
        """Return the source for ``read_image``: a pipe is read to its end first. Raise ImageError."""
        if self.source and not self.is_stream:
            return self.source
        try:
            if self.source:
                with self.source.open("rb", buffering=0) as file:
                    data = _read(file)
            else:
                # A buffer stays locked while this thread waits, and Python aborts if it ends meanwhile.
                data = _read(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))
        except OSError as error:
            raise ImageError(f"{self.name} cannot be read: {error.strerror or error}") from error
        if data.tell() > _LONGEST_STREAM:
            raise ImageError(f"{self.name} must be an image of at most {_LONGEST_STREAM >> 30} GiB")
        data.seek(0)
        return data

    def put(self, data: memoryview) -> None:
        """Write the encoded result where there is no target."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@dataclass(frozen=True)
class Plan:
    """The work of a run, and what is left out of it."""

    jobs: tuple[Job, ...]
    passed_over: tuple[PassedOver, ...] = ()
    failures: tuple[tuple[Job, str], ...] = ()
    """What cannot be read or named, and why in one line."""

    renamed: tuple[Job, ...] = ()
    """Jobs whose target has another name than usual, because names clashed."""


def find_jobs(
    inputs: Sequence[str], output: Output, naming: Naming, seeds: SeedsRequest | None = None
) -> Plan:
    """Return the images to read and the files to write, of one seed or of several.

    Raise click.UsageError if there are no images, or if a source would be overwritten.
    """
    folder = output.folder
    search = Search(Path(os.path.realpath(folder)) if folder else None)
    search.add(inputs)
    named = _without_results(_named(search, folder, naming), search) if folder else []
    _check_any(search, inputs)
    if folder is None:
        jobs = tuple(_job(item.path, output.file, seeds) for item in search.found)
        others = [path for job in jobs for path in job.outputs if path != output.file]
        _check_sources(others, search, "another name to -o")
        return Plan(jobs, tuple(search.passed_over))
    paths = targets([each for each, _ in named])
    pairs = zip(named, paths, strict=True)
    jobs = tuple(_job(each.item.path, path, seeds) for (each, _), path in pairs)
    _check_sources(
        [path for job in jobs for path in job.outputs], search, "another folder or --suffix"
    )
    _check_different(jobs)
    failures = [(Job(path, None), f"{path} {reason}") for path, reason in search.failures]
    failures += [(job, f"{job.name} {_TOO_LONG}") for job in jobs if _is_too_long(job)]
    return Plan(
        tuple(job for job in jobs if not _is_too_long(job)),
        tuple(search.passed_over),
        tuple(failures),
        tuple(
            job for job, (each, _) in zip(jobs, named, strict=True) if job.target != each.target()
        ),
    )


def check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    """Raise click.UsageError, before any work, if an output exists or cannot be written."""
    paths = [path for job in jobs for path in job.outputs]
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise click.UsageError(f"{existing[0]}{more} exists; pass --overwrite or --skip-existing")
    check_places(paths)


def check_places(paths: Sequence[Path]) -> None:
    """Raise click.UsageError, before any work, if no file can be written at one of these paths."""
    for path in paths:
        if path.is_dir():
            raise click.UsageError(f"{path} must be a file, and it is a folder")
        if path.exists() and not path.is_file():
            raise click.UsageError(f"{path} must be a file, and it is a device or a pipe")
        if path.is_symlink() and not path.exists():
            raise click.UsageError(f"{path} must be a file, and it is a broken link; remove it")
    for folder in {path.parent for path in paths}:
        nearest = next(f for f in (folder, *folder.absolute().parents) if f.exists())
        if not nearest.is_dir():
            raise click.UsageError(f"cannot write to {folder}: {nearest} is not a folder")
        if not os.access(nearest, os.W_OK):
            raise click.UsageError(f"cannot write to {folder}: permission denied")


def _read(file: Any) -> io.BytesIO:
    """Return what a stream gives up to its end; of one that is too long, a part that is too long."""
    data = io.BytesIO()
    while data.tell() <= _LONGEST_STREAM and (part := file.read(_CHUNK)):
        data.write(part)
    return data


def _check_any(search: Search, inputs: Sequence[str]) -> None:
    if search.found or search.failures:
        return
    passed = f"; passed over: {count_text(search.passed_over)}" if search.passed_over else ""
    raise click.UsageError(f"no images in {', '.join(inputs)}{passed}")


def _named(search: Search, folder: Path, naming: Naming) -> list[tuple[Named, bool]]:
    """Name the result of each image, and tell whether it lies among the sources.

    Several input folders keep their names. Results among the sources get a suffix of their own. Raise
    click.UsageError if a rerun would take results for sources: an output folder inside an input is not
    searched, but one that is an input, or holds inputs, may have folders of its own below them.
    """
    names = root_names(search.roots) if len(search.roots) > 1 else {}
    roots, output = map(search.real_folder, search.roots), search.real_folder(folder)
    holding = [root for root in roots if root.is_relative_to(output)]
    sources = {item.real for item in search.found}
    named = []
    for item in search.found:
        below = names.get(item.root, Path()) if item.root else Path()
        own = own_naming(item, naming)
        plain = Named(item, folder / below / item.relative.parent, own)
        place = search.real_folder(plain.folder)
        is_beside = (
            place in search.folders
            or (item.path is not None and place == search.real_folder(item.path.parent))
            or place / plain.target().name in sources
        )
        if not is_beside and any(place.is_relative_to(root) for root in holding):
            raise click.UsageError(
                f"a result would be in {plain.folder}, inside an input, and a rerun would upscale it again; "
                "give another folder to -o"
            )
        if is_beside and not naming.suffix:
            plain = replace(plain, naming=replace(own, suffix=IN_PLACE))
        named.append((plain, is_beside))
    return named


def own_naming(item: Found, naming: Naming) -> Naming:
    """Return how the result of one image is named: a TIFF of several pages may stay a TIFF."""
    return replace(naming, format=".tif") if naming.keeps_pages and _has_pages(item) else naming


def _has_pages(item: Found) -> bool:
    return item.kind == "TIFF" and item.path is not None and count_frames(item.path) > 1


def _without_results(
    named: Sequence[tuple[Named, bool]], search: Search
) -> list[tuple[Named, bool]]:
    """Drop what earlier runs wrote among the sources: it is known by its name."""
    siblings: dict[Path, set[str]] = {}
    for item in search.found:
        if item.path:
            names = {same_name(Path(name)) for name in (item.path.name, stem(item.path))}
            siblings.setdefault(item.path.parent, set()).update(names)
    kept, results = [], set[int]()
    for each, is_beside in named:
        path = each.item.path
        if path and is_beside and _is_result(each, path, siblings[path.parent]):
            results.add(id(each.item))
            search.passed_over.append(PassedOver(path, RESULT))
        else:
            kept.append((each, is_beside))
    search.found = [item for item in search.found if id(item) not in results]
    return kept


def _is_result(each: Named, path: Path, siblings: set[str]) -> bool:
    plain = path.with_name(f"{MARK.sub('', stem(path))}{path.suffix}")
    found_as_default = each.item.root is not None and stem(plain).endswith(IN_PLACE)
    return found_as_default or each.naming.is_result(plain, siblings)


def _check_sources(paths: Sequence[Path], search: Search, remedy: str) -> None:
    """Raise click.UsageError, with what to give, if a result would replace a source of the run."""
    sources = {item.real for item in search.found}
    for path in paths:
        if search.real_folder(path.parent) / path.name in sources:
            raise click.UsageError(f"{path} is an input and would be replaced; give {remedy}")


def _job(source: Path | None, target: Path | None, seeds: SeedsRequest | None) -> Job:
    return Job(source, target, seeds.files(target) if seeds and target else ())


def _check_different(jobs: Sequence[Job]) -> None:
    """Raise click.UsageError if a draw of one image has the name of another image's file."""
    names = Counter(same_name(path) for job in jobs for path in job.outputs)
    for path in (path for job in jobs for path in job.outputs):
        if names[same_name(path)] > 1:
            raise click.UsageError(f"two results would be named {path}; rename one of the sources")


def _is_too_long(job: Job) -> bool:
    return any(len(os.fsencode(path.name)) > _LONGEST_NAME for path in job.outputs)
