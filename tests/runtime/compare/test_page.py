"""The compare page, used in a real browser."""

import base64
import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from dossr.runtime.compare import Pair, write_compare_page
from dossr.runtime.compare.page import longest_side
from dossr.runtime.compare.thumbnails import embed
from dossr.runtime.errors import ImageError

RED, BLUE = (200, 0, 0), (0, 0, 200)


def _flat(colour, width, height):
    return np.full((height, width, 3), colour, np.uint8)


@pytest.fixture
def one(tmp_path):
    """A page of one pair: a red source and a blue result of 400 x 300."""
    path = tmp_path / "page.html"
    pair = Pair("photo.jpg", _flat(RED, 100, 75), _flat(BLUE, 400, 300), 1.25)
    write_compare_page(path, [pair], about="demo model, 5 steps")
    return path


def _clip(page):
    """The share of the source that is shown, from the style that the browser computed."""
    style = page.value("getComputedStyle(document.querySelector('.layer.source')).clipPath")
    return 100 - float(re.fullmatch(r"inset\(0px ([\d.]+)% 0px 0px\)", style)[1])


def _now(page):
    return page.value("+document.querySelector('[role=slider]').getAttribute('aria-valuenow')")


def _colours(page):
    """The colour of the window at the view's first, middle and last quarter."""
    left, top, width, height = page.box(".view")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return [shot.getpixel((int(left + width * x), int(top + height * 0.8))) for x in (0.25, 0.75)]


def _close(found, wanted):
    return all(abs(a - b) < 12 for a, b in zip(found, wanted, strict=True))


def test_dragging_the_line_shows_more_of_the_source(page, one):
    page.open(one)
    left, top, width, height = page.box(".view")
    middle = top + height / 2
    assert [_close(a, b) for a, b in zip(_colours(page), (RED, BLUE), strict=True)] == [True, True]
    for share in (0.9, 0.1, 0.6):
        page.drag((left + width * _now(page) / 100, middle), (left + width * share, middle))
        assert _clip(page) == pytest.approx(100 * share, abs=0.5)
        assert _now(page) == round(_clip(page))
        shown = [RED if x < share else BLUE for x in (0.25, 0.75)]
        assert all(map(_close, _colours(page), shown))
    page.drag((left + width * 0.3, middle), (left - 500, middle))  # outside the window
    assert _clip(page) == 0
    assert page.value("document.activeElement.getAttribute('role')") == "slider"


def test_a_finger_moves_the_line(page, one):
    page.size(390, 844, ratio=2, touch=True)
    page.open(one)
    left, top, width, height = page.box(".view")
    page.touch("touchStart", (left + width / 2, top + height / 2))
    for share in (0.6, 0.7, 0.8):
        page.touch("touchMove", (left + width * share, top + height / 2))
    page.touch("touchEnd")
    assert _clip(page) == pytest.approx(80, abs=0.5)


def test_keys_move_the_line(page, one):
    page.open(one)
    page.value("document.querySelector('[role=slider]').focus()")
    for key, wanted in [("ArrowRight", 51), ("ArrowDown", 50), ("PageUp", 60), ("End", 100),
                        ("ArrowRight", 100), ("PageDown", 90), ("Home", 0), ("ArrowUp", 1)]:  # fmt: skip
        page.press(key)
        assert (_now(page), _clip(page)) == (wanted, wanted), key
    text = page.value("document.querySelector('[role=slider]').getAttribute('aria-valuetext')")
    assert text == "1 % source"


def test_zooming_shows_the_pixels_and_keeps_what_is_under_the_mouse(page, tmp_path):
    """A result whose colour is its position: the browser shows one pixel as a square of 4."""
    y, x = np.mgrid[0:600, 0:800]
    result = np.dstack([x // 4, y // 4, 0 * x]).astype(np.uint8)
    write_compare_page(tmp_path / "p.html", [Pair("a", result[::4, ::4], result)])
    page.open(tmp_path / "p.html")
    left, top, width, height = page.box(".view")
    under = left + width * 0.75, top + height * 0.75
    before = _colour(page, *under)
    for count in (1, 2):
        page.mouse("mousePressed", *under, clickCount=count)
        page.mouse("mouseReleased", *under, clickCount=count)
    assert page.value("document.querySelector('.view').classList.contains('pixels')")
    scale = page.value("new DOMMatrix(document.querySelector('.view img').style.transform).a")
    assert scale == 4
    assert page.value("document.querySelector('output').value") == "400 %"
    beside = under[0] + 30, under[1]  # the first click put the line where the mouse is
    assert _near(_colour(page, *beside), before, 8)
    page.drag((left + width * 0.9, top + 50), (left + width * 0.9 - 100, top + 50))
    assert _near(_colour(page, beside[0] - 100, beside[1]), before, 8)  # the image moved along
    page.press("0")
    assert page.value("document.querySelector('button').getAttribute('aria-pressed')") == "true"


def _colour(page, x, y):
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB").getpixel((int(x), int(y)))


def _near(found, wanted, bound):
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= bound


def test_a_page_of_many_images_decodes_only_those_that_are_near(page, tmp_path):
    pairs = [Pair(f"{n}.png", _flat(RED, 8, 8), _flat((n, 0, 90), 32, 32)) for n in range(200)]
    write_compare_page(tmp_path / "p.html", pairs)
    page.open(tmp_path / "p.html")
    decoded = "[...document.querySelectorAll('img')].filter(i => i.hasAttribute('src')).length"
    assert 2 <= page.value(decoded) < 40
    assert page.value("document.querySelectorAll('figure').length") == 200
    page.value("location.hash = '#image-200'")
    page.wait("document.querySelector('#image-200 img').naturalWidth === 32")
    assert page.value(decoded) < 80
    assert not page.value("document.querySelector('#image-1 img').hasAttribute('src')")


def test_nothing_is_loaded_from_anywhere_and_nothing_fails(page, one):
    page.open(one)
    page.value("1")
    urls = [event["params"]["request"]["url"] for event in page.events
            if event.get("method") == "Network.requestWillBeSent"]  # fmt: skip
    assert all(url.startswith(("data:", one.as_uri())) for url in urls)
    said = {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
    assert not [event for event in page.events if event.get("method") in said]


def test_the_page_follows_light_and_dark_and_fits_a_phone(page, one):
    page.open(one)
    found = []
    for name in ("light", "dark"):
        page.scheme(name)
        background, ink = (page.value(f"getComputedStyle(document.body).{p}") for p in ("backgroundColor", "color"))  # fmt: skip
        found.append(sum(map(int, re.findall(r"\d+", background)[:3])) > sum(map(int, re.findall(r"\d+", ink)[:3])))  # fmt: skip
    assert found == [True, False]
    page.size(320, 640)
    assert page.value("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize(("width", "height"), [(3000, 4), (4, 3000), (1, 1), (40, 30)])
def test_an_image_of_any_shape_lies_inside_the_window(page, tmp_path, width, height):
    write_compare_page(
        tmp_path / "p.html", [Pair("a", _flat(RED, 1, 1), _flat(BLUE, width, height))]
    )
    page.open(tmp_path / "p.html")
    left, top, shown_width, shown_height = page.box(".view img")
    outer = page.box(".view")
    assert shown_width / shown_height == pytest.approx(width / height, rel=0.01)
    assert outer[3] <= 900 - 2 * 16
    assert left >= outer[0] - 0.5
    assert top >= outer[1] - 0.5
    assert left + shown_width <= outer[0] + outer[2] + 0.5
    assert top + shown_height <= outer[1] + outer[3] + 0.5


def test_facts_of_an_image_are_said_and_names_are_escaped(tmp_path):
    path = tmp_path / "p.html"
    name = 'a <b>&"$x" \'.png'
    big = np.zeros((10, 5000, 3), np.uint8)
    write_compare_page(path, [Pair(name, _flat(RED, 1250, 3), big, 61.04)], about="<i>")
    text = path.read_text()
    assert "a &lt;b&gt;&amp;&quot;$x&quot; &#x27;.png" in text
    assert "<b>" not in text
    assert "&lt;i&gt;" in text
    facts = re.findall(r"<span>([^<]*)</span>", text)
    assert facts == ["1250 × 3 → 5000 × 10", "61.0 s", "shown at 82%"]


def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(tmp_path):
    pairs = [
        Pair(os.fsdecode(name), _flat(RED, 4, 4), _flat(BLUE, 16, 16))
        for name in (b"caf\xe9", b"b")
    ]
    write_compare_page(tmp_path / "p.html", pairs, about=os.fsdecode(b"b\xfcndel"))
    text = (tmp_path / "p.html").read_text("utf-8")
    assert "b?ndel" in text
    assert text.count("caf?") == 6  # contents, heading, and what is read aloud


def test_files_and_arrays_of_any_kind_are_compared(tmp_path, photo):
    path = tmp_path / "p.html"
    alpha = Image.new("RGBA", (32, 32), (255, 0, 0, 128))
    alpha.save(tmp_path / "alpha.png")
    deep = np.full((32, 32, 3), 65535, np.uint16)
    pairs = [Pair("a", photo, tmp_path / "alpha.png"), Pair("b", alpha.convert("L"), deep)]
    write_compare_page(path, pairs)
    uris = re.findall(r'data-src="data:image/webp;base64,([^"]+)"', path.read_text())
    images = [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]
    assert [image.mode for image in images] == ["RGBA", "RGB", "RGB", "RGB"]
    assert images[2].getpixel((0, 0)) == (255, 255, 255)


def test_what_cannot_be_compared_leaves_the_old_page(tmp_path):
    path = tmp_path / "p.html"
    path.write_text("old")
    with pytest.raises(ImageError, match="needs at least one image"):
        write_compare_page(path, [])
    with pytest.raises(ImageError, match=r"none\.png"):
        write_compare_page(path, [Pair("a", tmp_path / "none.png", _flat(RED, 4, 4))])
    with pytest.raises(ImageError, match="cannot be written: it was created meanwhile"):
        write_compare_page(path, [Pair("a", _flat(RED, 4, 4), _flat(RED, 4, 4))], replace=False)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pair_that_cannot_be_read_is_named_in_its_place(tmp_path, monkeypatch):
    def read(source, *arguments):
        if source.shape[0] == 9:
            raise MemoryError
        return embed(source, *arguments)

    monkeypatch.setattr("dossr.runtime.compare.page.embed", read)
    shown, gone = _flat(RED, 4, 4), tmp_path / "<gone>.png"
    pairs = [
        Pair("a", shown, shown),
        Pair("b", shown, gone),
        Pair("c", _flat(RED, 9, 9), shown),
        Pair("d", shown, shown),
        Pair("e", shown, _flat(RED, 4, 4)[0, 0]),
    ]
    failures = write_compare_page(tmp_path / "p.html", pairs)
    assert failures == (
        f"{gone} cannot be read: No such file or directory",
        "c: not enough memory to show it",
        "e: lr must be (height, width, 3), grey (height, width) or (height, width, 1), got uint8 (3,)",
    )
    text = (tmp_path / "p.html").read_text()
    found = re.findall(r'<(\w+) id="image-(\d)"', text)
    assert found == [("figure", "1"), ("p", "2"), ("p", "3"), ("figure", "4"), ("p", "5")]
    assert "&lt;gone&gt;.png cannot be read" in text


def test_the_more_images_the_smaller_they_are():
    assert [longest_side(count) for count in (1, 12, 50, 200, 10000)] == [
        4096,
        4082,
        2000,
        1024,
        1024,
    ]
