"""What the figures say: multiples, order, shares, rounding."""

import pytest

pytest.importorskip("matplotlib")

from dossr.bench.rounding import gibibytes, millions, multiple, percent, significant
from dossr.bench.rows.comparison import compare
from dossr.bench.rows.results import Results
from dossr.bench.table1.report import terminal_table
from dossr.bench.table1.report.breakdown import OUTSIDE, parts


def test_the_papers_headline_is_computed_from_its_seconds(results, changed):
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


def test_protocols_and_precisions_are_never_compared_with_each_other(results, row):
    other = results.with_row(row("bsrgan", "replay")).with_row(row("ldl", precision="fp16"))
    (comparison,) = compare(other)
    assert [str(s) for s in comparison.setups][2:] == [
        "torch fp32 on cpu, replay",
        "torch fp16 on cpu, compose",
    ]
    assert comparison.multiple(comparison.setups[2], "bsrgan") is None  # no DoSSR-5 there


def test_without_the_reference_there_are_no_multiples(results, failed):
    why = "lack of memory: 12.1 GiB needed, 8.0 GiB free"
    spoilt = results.with_row(failed("dossr-5", why))
    (comparison,) = compare(spoilt)
    assert comparison.multiple(comparison.setups[0], "bsrgan") is None
    assert comparison.multiple(comparison.setups[1], "bsrgan") is not None
    assert "Here (torch" not in terminal_table(spoilt)


def test_systems_stand_in_the_order_of_the_paper(results, systems):
    backwards = Results(results.provenance, tuple(reversed(results.rows)))
    (comparison,) = compare(backwards)
    assert [r.system for r in comparison.systems] == [values[0] for values in systems]


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
