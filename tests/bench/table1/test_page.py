"""The HTML page."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from dossr.bench.rows.results import Results


class Page(HTMLParser):
    """Checks that tags are closed, and gathers what is there."""

    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._gather(attributes)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self._gather(attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(" ".join(data.split()))

    def _gather(self, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            elif name in ("href", "src", "xlink:href", "action"):
                self.links.append(value)
            self.links += re.findall(r"url\(([^)]*)\)", value or "")


def test_the_page_stands_alone(report):
    found = Page((report / "report.html").read_text())
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(found.tags)
    assert found.tags.count("svg") == 3  # the paper's, torch, onnx
    assert found.tags.count("table") == 3
    assert len(found.ids) == len(set(found.ids))
    assert found.links  # clip paths and tick marks
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)


def test_every_value_is_escaped(provenance, systems, row, failed, texts_of):
    evil = "<script>alert('&amp;')</script>|`x`\x1b[31m"
    rows = (row("ldl", title=evil, note=evil), failed("dasr", evil, title=evil), row("dossr-5"))
    spoilt = Results({**provenance, "command": evil, "versions": {evil: evil}}, rows)
    texts = texts_of(spoilt)
    found = Page(texts["page"])
    assert "script" not in found.tags
    assert any("<script>alert('&amp;')</script>" in word for word in found.words)
    assert not any("\x1b" in text for text in texts.values())
    assert "<script" not in texts["markdown"].replace("\\<", "")
    lines = [line for line in texts["markdown"].splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert bars == [11] * 5 + [13] * 5  # heads, rules and three systems
    ElementTree.fromstring(
        texts["page"][texts["page"].index("<svg") :].split("</svg>")[0] + "</svg>"
    )
