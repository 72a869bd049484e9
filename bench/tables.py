"""Tables as text. The first column is left-aligned, the others hold numbers and are right-aligned."""

from collections.abc import Callable, Iterable, Sequence

from .rounding import one_line


def markdown_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    escape: Callable[[str], str] = lambda cell: one_line(cell).replace("|", "\\|"),
) -> str:
    """Return a table in GitHub's Markdown."""
    first, *body = (f"| {' | '.join(map(escape, line))} |" for line in (head, *rows))
    return "\n".join([first, f"| :-- |{' --: |' * (len(head) - 1)}", *body])


def padded_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table for a terminal; heads of several words are stacked to keep columns narrow."""
    body = list(rows)
    words = [name.split(" ") for name in head]
    depth = max(map(len, words))
    heads = list(zip(*([""] * (depth - len(each)) + each for each in words), strict=True))
    widths = [max(map(len, column)) for column in zip(*heads, *body, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(_aligned(line, widths) for line in (*heads, rule, *body))


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = (
        cell.rjust(width) if place else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join([name, *numbers]).rstrip()
