"""The figure: marks where the figures are, labels that cover nothing."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from dossr.bench.rows.results import Results
from dossr.bench.table1.report.figure import draw, panels, span
from dossr.bench.table1.report.labels import Box, Circle, place


def test_the_figure_has_the_papers_systems_at_their_seconds(results, systems):
    paper, torch, _ = panels(results)
    drawn = draw([paper, torch], span([paper, torch]))
    for axes, panel in zip(drawn.axes, (paper, torch), strict=True):
        assert [p.title for p in panel.points] == [v[1] for v in systems if v[-1] is not None]
        marks = {tuple(c.get_offsets()[0].tolist()): c.get_sizes()[0] for c in axes.collections}
        for point in panel.points:
            area = marks[point.seconds, point.maniqa]
            assert area == pytest.approx(max(34.0**2 * point.parameters / 1000.0, 9.0))
    left, right = (np.log10(axes.get_xlim()) for axes in drawn.axes)
    assert np.ptp(left) == pytest.approx(np.ptp(right))  # distances are multiples in both


@pytest.mark.parametrize("rate", [0.03, 60.0])
def test_labels_cover_nothing(results, rate, provenance, systems, row):
    rows = (row(v[0], "replay", rate=rate * (1.0 + 0.1 * i)) for i, v in enumerate(systems))
    shown = panels(Results(provenance, (*results.rows, *rows)))
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
