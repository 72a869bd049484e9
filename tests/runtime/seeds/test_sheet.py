"""The contact sheet: all draws and labels on one page, at any number and aspect ratio."""

import numpy as np
import pytest

from dossr.runtime.seeds.request import MOST_SHOWN
from dossr.runtime.seeds.sheet import ContactSheet

COLOURS = ((250, 10, 10), (10, 200, 10), (10, 10, 250), (200, 200, 10), (200, 10, 200))


def _sheet(count, size, depth=np.uint8):
    sheet = ContactSheet(count, size, "photo.jpg: seeds, agreement")
    for number in range(count):
        colour = np.array(COLOURS[number % len(COLOURS)]) * (257 if depth == np.uint16 else 1)
        image = np.empty((size[1], size[0], 3), depth)
        image[:] = colour
        sheet.add(image, f"seed {number}  31.25")
    return sheet


def _shown(page, colour):
    """The pixels of a colour."""
    packed = np.asarray(page).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)
    return (packed == np.dot(colour, [1, 256, 65536])).sum()


@pytest.mark.parametrize("size", [(512, 512), (64, 2048), (4096, 64), (8, 8), (1500, 1000)])
@pytest.mark.parametrize("count", [1, 8])
def test_every_draw_is_shown_in_its_ratio_and_readable(count, size):
    page = _sheet(count, size).page()
    shown = [_shown(page, colour) for colour in COLOURS[: min(count, 5)]]
    smallest = min(shown)
    assert smallest >= min(size[0] * size[1], 90_000 if max(size) < 8 * min(size) else 20_000)
    assert max(shown) <= 2 * smallest  # of eight draws, three colours are shown twice
    assert count == 1 or page.width < 10 * page.height


def test_labels_are_not_cut():
    """A thumbnail of 8 pixels is narrower than its label."""
    wide, narrow = (_sheet(2, size).page() for size in ((512, 512), (8, 8)))
    for page in (np.asarray(each).min(axis=2) < 100 for each in (wide, narrow)):
        assert not page[:, -4:].any()  # no text runs out of the page
        assert not page[-2:].any()


def test_the_best_draw_is_framed():
    sheet = _sheet(5, (200, 100))
    frame = (213, 94, 0)
    assert not _shown(sheet.page(), frame)
    assert _shown(sheet.page(best=3), frame) > 2 * 3 * 200


def test_the_most_draws_fit_on_a_page():
    page = _sheet(MOST_SHOWN, (180, 180), np.uint16).page()
    assert page.width * page.height < 60_000_000
    assert _shown(page.crop((0, 0, page.width, 1000)), COLOURS[0]) > 5 * 150**2
