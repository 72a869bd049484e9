"""Writes the compare page: one file that holds its images and needs no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, TextIO

from ... import __version__
from ..errors import ImageError
from ..files import whole_file
from .thumbnails import embed

_MOST_PIXELS = 200_000_000  # of all results together: about 60 MB
_LARGEST, _SMALLEST = 4096, 1024  # sides of one result, however few or many there are


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class Pair:
    """An image and its result. Files are read when the page is written, one pair at a time."""

    name: str
    """Heading, such as the path below the input folder."""

    source: Path | Any
    """An image file, or an image as ``Pipeline.upscale`` takes it."""

    result: Path | Any
    """The same for the result, of any size."""

    seconds: float | None = None
    """How long it took; None: not shown."""


def write_compare_page(
    path: Path,
    pairs: Sequence[Pair],
    *,
    title: str = "Before and after",
    about: str = "",
    replace: bool = True,
) -> tuple[str, ...]:
    """Write one HTML file with a slider for each pair: the source, enlarged bicubically, and the result.

    ``about`` is a line below the title, such as the bundle and the options. Results are embedded in
    full up to sides of 4096 pixels, and smaller where there are many, so that a page of 200 images
    stays below 100 MB. The file is complete or absent; without ``replace``, an existing one is kept.
    In place of a pair that cannot be read the page tells why; return these reasons, of one line each.
    Raise ImageError of one line if no pair can be read or the page not be written.
    """
    if not pairs:
        raise ImageError(f"{path} needs at least one image to compare")
    page = Template(_text("page.html"))
    head, tail = page.substitute(
        title=escape(title),
        about=escape(f" · {about}" if about else ""),
        count=f"{len(pairs)} image{'s' if len(pairs) > 1 else ''}",
        contents=_contents(pairs),
        version=__version__,
        figures="\0",
    ).split("\0")
    try:
        with (
            whole_file(path, replace=replace) as temporary,
            temporary.open("w", encoding="utf-8", errors="replace") as file,
        ):
            file.write(head)
            failures = _write_figures(file, pairs, longest_side(len(pairs)))
            file.write(tail)
            if len(failures) == len(pairs):
                raise ImageError(failures[0])
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from error
    return failures


def longest_side(count: int) -> int:
    """Return the longest side at which each of ``count`` results is embedded, in pixels."""
    return max(_SMALLEST, min(_LARGEST, int(math.sqrt(_MOST_PIXELS / count))))


def _write_figures(file: TextIO, pairs: Sequence[Pair], side: int) -> tuple[str, ...]:
    """Write a figure for each pair, or why there is none; return these reasons."""
    figure, failures = Template(_text("figure.html")), list[str]()
    for number, pair in enumerate(pairs, 1):
        try:
            text = figure.substitute(_values(number, pair, side))
        except ImageError as error:
            failures.append(str(error))
        except ValueError as error:  # of an array or a PIL image
            failures.append(f"{pair.name}: {error}")
        except MemoryError:
            failures.append(f"{pair.name}: not enough memory to show it")
        else:
            file.write(text)
            continue
        file.write(f'<p id="image-{number}">{escape(failures[-1])}</p>\n')
    return tuple(failures)


def _values(number: int, pair: Pair, side: int) -> dict[str, Any]:
    """Return what stands in the figure of one pair."""
    source, result = embed(pair.source, pair.result, side)
    (width, height), (shown, _) = result.size, result.shown
    facts = [f"{source.size[0]} × {source.size[1]} → {width} × {height}"]
    if pair.seconds is not None:
        facts.append(f"{pair.seconds:.1f} s")
    if shown < width:
        facts.append(f"shown at {shown / width:.0%}")
    return {
        "number": number,
        "name": escape(pair.name),
        "facts": " · ".join(f"<span>{fact}</span>" for fact in facts),
        "width": result.shown[0],
        "height": result.shown[1],
        "source": source.uri,
        "result": result.uri,
    }


def _contents(pairs: Sequence[Pair]) -> str:
    """Return a list of links to the figures; nothing for a single one."""
    if len(pairs) == 1:
        return ""
    links = (
        f'<li><a href="#image-{n}">{escape(pair.name)}</a></li>' for n, pair in enumerate(pairs, 1)
    )
    return f"<details><summary>Contents</summary><ol>{''.join(links)}</ol></details>"


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
