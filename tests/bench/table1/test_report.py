"""The files of a report."""

import csv
from xml.etree import ElementTree

import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from dossr.bench.rows.comparison import compare, setup_of
from dossr.bench.rows.results import Results, load_results
from dossr.bench.table1.report import write_report


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


def test_a_report_is_replaced_whole(tmp_path, provenance, row, failed):
    write_report(Results(provenance, (row("ldl"),)), tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    write_report(Results(provenance, (failed("ldl", "no luck"),)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    for name in ("table.md", "table.csv", "results.json", "report.html"):
        assert "no luck" in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("origin", "systems", "error"),
    [({"commit": object()}, ("ldl",), TypeError), ({}, (), ValueError)],
)
def test_nothing_is_written_where_the_report_cannot_be_made(
    origin, systems, error, tmp_path, provenance, row
):
    spoilt = Results({**provenance, **origin}, tuple(map(row, systems)))
    (tmp_path / "table.md").write_text("of an earlier run")
    with pytest.raises(error):
        write_report(spoilt, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of an earlier run"]
    with pytest.raises(error):
        write_report(spoilt, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_folder_is_kept(tmp_path, provenance, row):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OSError, match="out"):
        write_report(Results(provenance, (row("ldl"),)), tmp_path / "out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
