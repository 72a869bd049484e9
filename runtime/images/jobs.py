"""The image files that a run reads and writes."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..files import is_unfinished
from .formats import WRITABLE
from .kinds import classify


@dataclass(frozen=True)
class Job:
    """One image to read and the file to write."""

    source: Path
    target: Path


def find_jobs(inputs: Sequence[Path], output: Path) -> list[Job]:
    """Return the images to read and the files to write.

    Raise click.UsageError if there are no images or two of them would be written to one file.
    """
    if len(inputs) == 1 and inputs[0].is_file() and output.suffix and not output.is_dir():
        if output.suffix.lower() not in WRITABLE:
            raise click.UsageError(
                f"cannot write {output}: '{output.suffix}' is not a supported format; try .png"
            )
        return [Job(inputs[0], output)]
    if output.exists() and not output.is_dir():
        raise click.UsageError(f"{output} must be a folder for these inputs, and it is a file")
    jobs: dict[Path, Job] = {}
    for path in inputs:
        for file, relative in _images(path, output.resolve()):
            target = output / relative.with_suffix(".png")
            if target in jobs:
                raise click.UsageError(
                    f"{jobs[target].source} and {file} would both be written to {target}; rename one"
                )
            jobs[target] = Job(file, target)
    if not jobs:
        raise click.UsageError(f"no images in {', '.join(map(str, inputs))}")
    return list(jobs.values())


def check_outputs(jobs: Sequence[Job], overwrite: bool) -> None:
    """Raise click.UsageError, before any work, if an output exists or cannot be written."""
    existing = [job.target for job in jobs if job.target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise click.UsageError(f"{existing[0]}{more} exists; pass --overwrite or --skip-existing")
    for job in jobs:
        if job.target.is_dir():
            raise click.UsageError(f"{job.target} must be a file, and it is a folder")
    for folder in {job.target.parent for job in jobs}:
        nearest = next(f for f in (folder, *folder.absolute().parents) if f.exists())
        if not nearest.is_dir():
            raise click.UsageError(f"cannot write to {folder}: {nearest} is not a folder")
        if not os.access(nearest, os.W_OK):
            raise click.UsageError(f"cannot write to {folder}: permission denied")


def _images(path: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the images of an input and their relative paths, except those in an output inside it."""
    if path.is_file():
        yield path, Path(path.name)
        return
    root = path.resolve()
    is_inside = output != root and output.is_relative_to(root)
    for file in sorted(_walk(path)):
        written = is_inside and file.resolve().is_relative_to(output)
        if not written and (file.is_dir() or (file.is_file() and _is_image(file))):
            yield file, file.relative_to(path.parent if file == path else path)


def _is_image(file: Path) -> bool:
    return not is_unfinished(file) and classify(file).role == "image"


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, and every folder that cannot be read, so that it fails."""
    unreadable: list[Path] = []
    for root, _, names in os.walk(
        folder, onerror=lambda error: unreadable.append(Path(error.filename))
    ):
        yield from (Path(root) / name for name in names)
    yield from unreadable
