"""What a report tells in every form: terminal, Markdown, page."""

import csv
import io

import pytest
from msgspec.structs import replace

pytest.importorskip("matplotlib")

from dossr.bench.rounding import millions
from dossr.bench.rows.comparison import compare
from dossr.bench.rows.results import Results
from dossr.bench.table1.report import terminal_table
from dossr.bench.table1.report.figure import panels
from dossr.bench.table1.report.text import comma_separated


def test_every_system_and_figure_is_in_every_text(results, report, systems):
    html = (report / "report.html").read_text()
    for text in (terminal_table(results), (report / "table.md").read_text(), html):
        assert all(title in text for _, title, *_ in systems)
        assert all(millions(parameters / 1e6) in text for _, _, parameters, *_ in systems)
        assert all(figure in text for figure in ("2,283.7", "2,252.6", "99,610", "18.90", "≈ 198"))
    assert "fixture, not a measurement" in html


def test_a_failed_row_gives_its_reason_and_the_others_stay(results, failed, texts_of):
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


def test_what_was_not_tried_is_a_dash(results, provenance):
    few = Results(provenance, results.rows[:13])  # twelve on torch, BSRGAN on onnx
    table = terminal_table(few)
    line = next(line for line in table.splitlines() if line.startswith("SeeSR-50"))
    assert line.split()[-2:] == ["-", "-"]
    assert "not measured: Real-ESRGAN, LDL, DASR" in table


def test_counts_alone_make_a_report(provenance, systems, row, texts_of):
    nothing = dict.fromkeys(("latency_s", "p90_s", "cold_s", "loop_s", "io_s", "tmac_s"))
    counts = [row(v[0], "count", "-", device="meta", stages=(), **nothing) for v in systems]
    results = Results(provenance, tuple(counts))
    texts = texts_of(results)
    assert all("1,717.6" in text for text in texts.values())
    assert [panel.title for panel in panels(results)] == ["Paper: V100"]
    assert "Where the time goes" not in texts["page"]


def test_what_was_composed_says_so_everywhere(results, report, provenance, row):
    html, table = (report / "report.html").read_text(), (report / "table.md").read_text()
    for text in (terminal_table(results), html, table):
        assert "≈ 198" in text
        assert "no whole image was run" in text
    assert all("compose" in p.title and "≈" in p.points[0].label for p in panels(results)[1:])
    assert ",compose," in (report / "table.csv").read_text().splitlines()[1]
    replayed = Results(provenance, (row("bsrgan", "replay"), row("dossr-5", "replay")))
    assert "≈" not in terminal_table(replayed)
    assert "≈" not in panels(replayed)[1].points[0].label


def test_reduced_networks_are_loudly_told_apart(results, provenance, row, texts_of):
    small = replace(row("dossr-5", "replay"), reduced=True, size=64)
    mixed = Results(provenance, (row("dossr-5"), small))
    for text in texts_of(mixed).values():
        assert "REDUCED NETWORKS: these figures are meaningless" in text
        assert "64 × 64" in text
        assert "torch fp32 on cpu, replay, 64 px, REDUCED" in text
    assert [panel.loud for panel in panels(mixed)] == [False, False, True]
    assert len(compare(mixed)) == 2
    assert "REDUCED" not in terminal_table(results)


def test_a_note_of_many_systems_is_written_once(results, changed):
    noted = changed(
        changed(results, "dossr-1", note="as\nreleased"), "dossr-5", note="as\nreleased"
    )
    assert terminal_table(noted).count("DoSSR-1, DoSSR-5: as released") == 2  # torch, onnx
