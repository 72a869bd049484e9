"""The report: tables, files, figure and page, over invented timings of the twelve systems."""

import csv
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

pytest.importorskip("matplotlib")

from dossr.bench.rounding import (
    gibibytes,
    millions,
    multiple,
    percent,
    significant,
)
from dossr.bench.table1.report import terminal_table, write_report
from dossr.bench.table1.report.breakdown import OUTSIDE, parts
from dossr.bench.table1.report.comparison import compare, setup_of
from dossr.bench.table1.report.figure import draw, panels, span
from dossr.bench.table1.report.labels import Box, Circle, place
from dossr.bench.table1.report.page import page
from dossr.bench.table1.report.text import comma_separated, markdown
from dossr.bench.table1.results import Results, Row, Stage, load_results

PROVENANCE = {
    "machine": "fixture, not a measurement",
    "cpu": "Fixture CPU <2 cores> & co",
    "cores": 2,
    "memory_bytes": 24 * 2**30,
    "gpu": None,
    "driver": None,
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "commit": "0123456",
    "command": "dossr-bench table1 --protocol compose",
    "time": "2026-11-24T00:00:00+00:00",
    "matmul_tmac_s": {"fp32": 0.05},
}

# name, title, parameters, official M, GMAC (facts file), paper's M, s, MANIQA, networks
SYSTEMS = (
    ("bsrgan", "BSRGAN", 16_697_987, 16.698, 293.713, 16.70, 0.06, 0.3882),
    ("real-esrgan", "Real-ESRGAN", 16_697_987, 16.698, 293.713, 16.70, 0.08, 0.3861),
    ("ldl", "LDL", 16_697_987, 16.698, 293.713, 16.70, 0.08, 0.3921),
    ("dasr", "DASR", 8_055_998, 8.056, 46.05, 8.07, 0.04, 0.3196),
    ("stablesr-200", "StableSR-200", 1_409_111_000, 1409.111, 99_610.0, 1409.1, 18.90, 0.4838),
    ("resshift-15", "ResShift-15", 173_916_000, 173.916, 5484.0, 173.9, 1.12, 0.4713),
    ("diffbir-50", "DiffBIR-50", 1_716_707_000, 1716.707, 29_344.0, 1716.7, 5.85, 0.4869),
    ("seesr-50", "SeeSR-50", 2_252_570_000, 2252.57, 84_437.0, 2283.7, 7.24, 0.5588),
    ("dossr-1", "DoSSR-1", 1_717_612_000, 1717.612, 3808.0, None, None, None),
    ("dossr-3", "DoSSR-3", 1_717_612_000, 1717.612, 4881.0, None, None, None),
    ("dossr-5", "DoSSR-5", 1_717_612_000, 1717.612, 5955.0, 1716.6, 1.03, 0.5794),
    ("dossr-7", "DoSSR-7", 1_717_612_000, 1717.612, 7028.0, None, None, None),
)
STEPS = {"stablesr-200": 200, "resshift-15": 15, "diffbir-50": 50, "seesr-50": 50}


def row(system, protocol="compose", backend="torch", rate=0.03, **changes):
    """A row of the fixture: its seconds are GMAC over an invented rate in TMAC/s."""
    values = next(values for values in SYSTEMS if values[0] == system)
    name, title, parameters, known, gmac, *paper = values
    steps = STEPS.get(name) or (int(name[-1]) if name.startswith("dossr") else 1)
    seconds = gmac / 1000.0 / rate
    stages = (
        Stage("denoiser", steps, parameters, 0.8 * gmac / steps, None, 0.8 * seconds / steps),
    )
    if steps > 1:
        stages += (Stage("decoder", 1, 49_490_179, 0.2 * gmac, 1257.259, 0.19 * seconds),)
    timed = Row(
        name, title, protocol, backend, "cpu", "fp32", 128, False, parameters, known, gmac, gmac,
        *paper, stages=stages, latency_s=seconds, p90_s=1.1 * seconds, cold_s=1.5 * seconds,
        loop_s=0.01 * seconds, io_s=0.012, peak_bytes=parameters * 4 + 2**30, tmac_s=rate,
        utilization=rate / 0.05, warmup=1, repetitions=3,
    )  # fmt: skip
    return replace(timed, **changes)


def failed(system, reason, **changes):
    """A row that could not be measured."""
    nothing = dict.fromkeys(
        ("latency_s", "p90_s", "cold_s", "loop_s", "io_s", "peak_bytes", "tmac_s", "utilization")
    )
    return row(system, **{"failed": reason, "stages": (), **nothing, **changes})


@pytest.fixture(scope="module")
def results():
    """All twelve under compose, on torch and on onnx."""
    names = [values[0] for values in SYSTEMS]
    rows = [row(name) for name in names]
    rows += [row(name, backend="onnx", rate=0.04 if "sr-" in name else 0.025) for name in names]
    return Results(PROVENANCE, tuple(rows))


def changed(results, system, **changes):
    """With these changes in every row of a system."""
    rows = (replace(r, **changes) if r.system == system else r for r in results.rows)
    return Results(results.provenance, tuple(rows))


@pytest.fixture(scope="module")
def report(results, tmp_path_factory):
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("reports") / "new" / "folder"
    paths = write_report(results, folder)
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


def texts_of(results):
    """What people read, by name."""
    return {
        "terminal": terminal_table(results),
        "markdown": markdown(results),
        "page": page(results),
    }


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


# --- what the figures say


def test_the_papers_headline_is_computed_from_its_seconds(results):
    line = next(line for line in terminal_table(results).splitlines() if line.startswith("Paper"))
    assert "DiffBIR-50 takes 5.7×" in line
    assert "SeeSR-50 takes 7.0×" in line
    slower = changed(results, "dossr-5", paper_latency_s=2.06)
    assert "DiffBIR-50 takes 2.8×" in terminal_table(slower)


def test_multiples_are_of_dossr_5_under_the_same_setup(results):
    (comparison,) = compare(results)
    torch, onnx = comparison.setups
    assert comparison.multiple(torch, "diffbir-50") == pytest.approx(29_344 / 5955)
    assert comparison.multiple(onnx, "diffbir-50") == pytest.approx(29_344 / 5955 * 0.04 / 0.025)
    assert comparison.multiple(torch, "dossr-5") == 1.0
    assert comparison.paper_multiple("seesr-50") == 7.24 / 1.03
    assert comparison.paper_multiple("dossr-7") is None


def test_protocols_and_precisions_are_never_compared_with_each_other(results):
    other = results.with_row(row("bsrgan", "replay")).with_row(row("ldl", precision="fp16"))
    (comparison,) = compare(other)
    assert [str(s) for s in comparison.setups][2:] == [
        "torch fp32 on cpu, replay",
        "torch fp16 on cpu, compose",
    ]
    assert comparison.multiple(comparison.setups[2], "bsrgan") is None  # no DoSSR-5 there


def test_without_the_reference_there_are_no_multiples(results):
    why = "lack of memory: 12.1 GiB needed, 8.0 GiB free"
    spoilt = results.with_row(failed("dossr-5", why))
    (comparison,) = compare(spoilt)
    assert comparison.multiple(comparison.setups[0], "bsrgan") is None
    assert comparison.multiple(comparison.setups[1], "bsrgan") is not None
    assert "Here (torch" not in terminal_table(spoilt)


def test_systems_stand_in_the_order_of_the_paper(results):
    backwards = Results(results.provenance, tuple(reversed(results.rows)))
    (comparison,) = compare(backwards)
    assert [r.system for r in comparison.systems] == [values[0] for values in SYSTEMS]


def test_stages_add_up(results):
    shown = parts(next(r for r in results.rows if r.system == "dossr-5"))
    assert [(p.name, p.calls) for p in shown] == [("denoiser", 5), ("decoder", 1), (OUTSIDE, 0)]
    assert sum(p.share for p in shown) == pytest.approx(1.0)
    assert shown[0].seconds == pytest.approx(0.8 * 5955 / 30)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (significant(0.061234), "0.0612"),
        (significant(9.996), "10.0"),
        (significant(99_610.4, 4), "99,610"),
        (significant(0.0), "0"),
        (significant(None), "-"),
        (millions(8.056), "8.06"),
        (millions(1716.564), "1,716.6"),
        (millions(99.999), "100.0"),
        (multiple(0.0388), "0.04"),
        (multiple(5.6796), "5.7"),
        (multiple(0.996), "1.0"),
        (multiple(123.4), "123"),
        (gibibytes(3 * 2**30), "3.00"),
        (percent(0.345), "34"),
        (percent(0.0345), "3.5"),
    ],
)
def test_numbers_are_rounded_to_what_they_hold(shown, expected):
    assert shown == expected


# --- what is written


def test_the_csv_reads_back_to_the_numbers(results, report):
    lines = list(csv.DictReader((report / "table.csv").read_text().splitlines()))
    (comparison,) = compare(results)
    for line, original in zip(lines, results.rows, strict=True):
        for name in ("parameters", "gmac", "latency_s", "p90_s", "peak_bytes", "tmac_s"):
            assert float(line[name]) == getattr(original, name)
        assert line["system"] == original.system
        again = comparison.multiple(setup_of(original), original.system)
        assert float(line["multiple"]) == again
        paper = comparison.paper_multiple(original.system)
        assert line["paper_multiple"] == ("" if paper is None else str(paper))


def test_the_json_is_the_results(results, report):
    assert load_results(report / "results.json") == results


def test_the_figures_decode(report):
    with Image.open(report / "latency.png") as image:
        image.load()
    assert image.width > 1000
    assert ElementTree.parse(report / "latency.svg").getroot().tag.endswith("svg")


def test_a_report_is_replaced_whole(tmp_path):
    write_report(Results(PROVENANCE, (row("ldl"),)), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    write_report(Results(PROVENANCE, (failed("ldl", "no luck"),)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    for name in ("table.md", "table.csv", "results.json", "report.html"):
        assert "no luck" in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("spoilt", "error"),
    [
        (Results({**PROVENANCE, "commit": object()}, (row("ldl"),)), TypeError),
        (Results(PROVENANCE), ValueError),
    ],
)
def test_nothing_is_written_where_the_report_cannot_be_made(spoilt, error, tmp_path):
    (tmp_path / "table.md").write_text("of an earlier run")
    with pytest.raises(error):
        write_report(spoilt, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of an earlier run"]
    with pytest.raises(error):
        write_report(spoilt, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder_is_kept(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="out"):
        write_report(Results(PROVENANCE, (row("ldl"),)), tmp_path / "out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_every_system_and_figure_is_in_every_text(results, report):
    html = (report / "report.html").read_text()
    for text in (terminal_table(results), (report / "table.md").read_text(), html):
        assert all(title in text for _, title, *_ in SYSTEMS)
        assert all(millions(parameters / 1e6) in text for _, _, parameters, *_ in SYSTEMS)
        assert all(figure in text for figure in ("2,283.7", "2,252.6", "99,610", "18.90", "≈ 198"))
    assert "fixture, not a measurement" in html


def test_a_failed_row_gives_its_reason_and_the_others_stay(results):
    why = "lack of memory: 12.1 GiB needed,\n8.0 GiB free"
    shown = results.with_row(failed("seesr-50", why))
    for text in texts_of(shown).values():
        assert "SeeSR-50 failed: lack of memory: 12.1 GiB needed, 8.0 GiB free" in text
        assert "≈ 3,320" in text
    lines = csv.DictReader(io.StringIO(comma_separated(shown)))
    seesr = [line for line in lines if line["system"] == "seesr-50"]
    assert [(line["failed"], line["latency_s"] == "") for line in seesr] == [
        (why, True),
        ("", False),
    ]
    panel = panels(shown)[1]
    assert panel.missing == ("SeeSR-50",)
    assert len(panel.points) == 8


def test_what_was_not_tried_is_a_dash(results):
    few = Results(PROVENANCE, results.rows[:13])  # twelve on torch, BSRGAN on onnx
    table = terminal_table(few)
    line = next(line for line in table.splitlines() if line.startswith("SeeSR-50"))
    assert line.split()[-2:] == ["-", "-"]
    assert "not measured: Real-ESRGAN, LDL, DASR" in table


def test_counts_alone_make_a_report():
    nothing = dict.fromkeys(("latency_s", "p90_s", "cold_s", "loop_s", "io_s", "tmac_s"))
    counts = [row(v[0], "count", "-", device="meta", stages=(), **nothing) for v in SYSTEMS]
    results = Results(PROVENANCE, tuple(counts))
    texts = texts_of(results)
    assert all("1,717.6" in text for text in texts.values())
    assert [panel.title for panel in panels(results)] == ["Paper: V100"]
    assert "Where the time goes" not in texts["page"]


def test_what_was_composed_says_so_everywhere(results, report):
    html, table = (report / "report.html").read_text(), (report / "table.md").read_text()
    for text in (terminal_table(results), html, table):
        assert "≈ 198" in text
        assert "no whole image was run" in text
    assert all("compose" in p.title and "≈" in p.points[0].label for p in panels(results)[1:])
    assert ",compose," in (report / "table.csv").read_text().splitlines()[1]
    replayed = Results(PROVENANCE, (row("bsrgan", "replay"), row("dossr-5", "replay")))
    assert "≈" not in terminal_table(replayed)
    assert "≈" not in panels(replayed)[1].points[0].label


def test_reduced_networks_are_loudly_told_apart(results):
    small = replace(row("dossr-5", "replay"), reduced=True, size=64)
    mixed = Results(PROVENANCE, (row("dossr-5"), small))
    for text in texts_of(mixed).values():
        assert "REDUCED NETWORKS: these figures mean nothing" in text
        assert "64 × 64" in text
        assert "torch fp32 on cpu, replay, 64 px, REDUCED" in text
    assert [panel.loud for panel in panels(mixed)] == [False, False, True]
    assert len(compare(mixed)) == 2
    assert "REDUCED" not in terminal_table(results)


def test_a_note_of_many_systems_is_written_once(results):
    noted = changed(
        changed(results, "dossr-1", note="as\nreleased"), "dossr-5", note="as\nreleased"
    )
    assert terminal_table(noted).count("DoSSR-1, DoSSR-5: as released") == 2  # torch, onnx


def test_the_page_stands_alone(report):
    found = Page((report / "report.html").read_text())
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(found.tags)
    assert found.tags.count("svg") == 3  # the paper's, torch, onnx
    assert found.tags.count("table") == 3
    assert len(found.ids) == len(set(found.ids))
    assert found.links  # clip paths and tick marks
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)


def test_every_value_is_escaped():
    evil = "<script>alert('&amp;')</script>|`x`\x1b[31m"
    rows = (row("ldl", title=evil, note=evil), failed("dasr", evil, title=evil), row("dossr-5"))
    spoilt = Results({**PROVENANCE, "command": evil, "versions": {evil: evil}}, rows)
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


# --- the figure


def test_the_figure_has_the_papers_systems_at_their_seconds(results):
    paper, torch, _ = panels(results)
    drawn = draw([paper, torch], span([paper, torch]))
    for axes, panel in zip(drawn.axes, (paper, torch), strict=True):
        assert [p.title for p in panel.points] == [v[1] for v in SYSTEMS if v[-1] is not None]
        marks = {tuple(c.get_offsets()[0].tolist()): c.get_sizes()[0] for c in axes.collections}
        for point in panel.points:
            area = marks[point.seconds, point.maniqa]
            assert area == pytest.approx(max(34.0**2 * point.parameters / 1000.0, 9.0))
    left, right = (np.log10(axes.get_xlim()) for axes in drawn.axes)
    assert np.ptp(left) == pytest.approx(np.ptp(right))  # distances are multiples in both


@pytest.mark.parametrize("rate", [0.03, 60.0])
def test_labels_cover_nothing(results, rate):
    rows = (row(v[0], "replay", rate=rate * (1.0 + 0.1 * i)) for i, v in enumerate(SYSTEMS))
    shown = panels(Results(PROVENANCE, (*results.rows, *rows)))
    figure = draw(shown, span(shown))
    for axes in figure.axes:
        texts = [t for t in axes.texts if t.get_text() and not (t.get_text()[0].isdigit())]
        boxes = [t.get_window_extent() for t in texts]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i]), texts[i].get_text()
            assert axes.bbox.x0 <= box.x0
            assert box.x1 <= axes.bbox.x1
            for mark in axes.collections:
                x, y = mark.get_offset_transform().transform(mark.get_offsets()[0])
                radius = np.sqrt(mark.get_sizes()[0]) / 2 * figure.dpi / 72
                near = np.clip(x, box.x0, box.x1) - x, np.clip(y, box.y0, box.y1) - y
                assert np.hypot(*near) > 0.85 * radius, texts[i].get_text()


def test_a_label_keeps_away_from_what_is_taken():
    inside, taken = Box(0, 0, 200, 100), Box(60, 0, 200, 100)
    circle = Circle(50, 50, 5, width=30, height=10)
    (free,) = place([circle], inside)
    (beside,) = place([circle], inside, [taken])
    assert free.left > 55  # to the right by choice
    assert beside.overlap(taken) == 0.0
    assert beside.overlap(inside) == beside.area


@pytest.mark.parametrize("count", [2, 5, 9])
def test_labels_of_marks_in_one_place_fan_out(count):
    circles = [Circle(500.0, 500.0 + i, 3.0, 60.0, 20.0) for i in range(count)]
    boxes = place(circles, Box(0, 0, 1000, 1000))
    for i, box in enumerate(boxes):
        assert all(box.overlap(other) == 0.0 for other in boxes[:i])
