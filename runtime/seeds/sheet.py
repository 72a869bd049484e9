"""The contact sheet: all draws of an image on one page, each with its seed and score."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..tensors import Array

_PAGE = 32_000_000  # pixels, about
_CELL = 480**2  # pixels of a thumbnail, at most
_LONGEST = 1600  # side of a thumbnail
_GAP, _TEXT, _LINE = 8, 16, 22  # pixels
_INK, _PAPER, _BEST = "#1a1a1a", "#ffffff", "#d55e00"
_RATIO = 4 / 3  # width to height that a page comes close to


class ContactSheet:
    """Collects thumbnails of ``count`` results of one size, width and height in pixels."""

    def __init__(self, count: int, size: tuple[int, int], title: str) -> None:
        area = min(_CELL, _PAGE / count, size[0] * size[1])
        scale = min(math.sqrt(area / (size[0] * size[1])), _LONGEST / max(size))
        self._thumbnail = tuple(max(1, round(side * scale)) for side in size)
        self._title = title
        self._font = ImageFont.load_default(_TEXT)
        self._cells: list[tuple[Image.Image, str]] = []

    def add(self, image: Array, label: str) -> None:
        """Add a result (h, w, 3), uint8 or uint16, with the text below it."""
        if image.dtype == np.uint16:
            image = (image >> 8).astype(np.uint8)
        width, height = self._thumbnail
        small = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
        self._cells.append((small, label))

    def page(self, best: int | None = None) -> Image.Image:
        """Return the page; the draw with the number ``best`` is framed."""
        labels = [label for _, label in self._cells]
        text = math.ceil(max(self._font.getlength(label) for label in labels))
        width, height = self._thumbnail
        cell = (max(width, text) + _GAP, height + _LINE + _GAP)
        columns = _columns(len(self._cells), cell)
        rows = -(-len(self._cells) // columns)
        title = math.ceil(self._font.getlength(self._title)) + 2 * _GAP
        page = Image.new(
            "RGB",
            (max(columns * cell[0] + _GAP, title), rows * cell[1] + _LINE + 2 * _GAP),
            _PAPER,
        )
        draw = ImageDraw.Draw(page)
        draw.text((_GAP, _GAP), self._title, _INK, self._font)
        for number, (image, label) in enumerate(self._cells):
            row, column = divmod(number, columns)
            left, top = column * cell[0] + _GAP, row * cell[1] + _LINE + 2 * _GAP
            page.paste(image, (left, top))
            is_best = number == best
            if is_best:
                frame = (left - 3, top - 3, left + width + 2, top + height + 2)
                draw.rectangle(frame, outline=_BEST, width=3)
            draw.text((left, top + height + 3), label, _BEST if is_best else _INK, self._font)
        return page


def _columns(count: int, cell: tuple[int, int]) -> int:
    """Return the number of columns whose page is nearest to _RATIO, with the fewest empty cells."""

    def cost(columns: int) -> tuple[float, int]:
        rows = -(-count // columns)
        ratio = columns * cell[0] / (rows * cell[1])
        return abs(math.log(ratio / _RATIO)) + (rows * columns - count) / count, columns

    return min(range(1, count + 1), key=cost)
