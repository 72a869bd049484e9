"""Laws of the size asked for."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossr.runtime.images.sizes import TargetSize, parse_fit

SIDE = st.integers(1, 20_000)
SOURCE = st.tuples(SIDE, SIDE)
ANY = st.one_of(
    st.builds(TargetSize, scale=st.floats(1e-6, 100)),
    *(st.builds(TargetSize, **{name: SIDE}) for name in ("longest", "shortest", "width", "height")),
    st.builds(TargetSize, fit=SOURCE),
)


@given(SOURCE)
def test_four_times_where_nothing_is_asked(source):
    assert (
        TargetSize().of(source) == TargetSize(scale=4).of(source) == (4 * source[0], 4 * source[1])
    )


@given(ANY, SOURCE)
def test_the_ratio_is_kept_and_no_side_vanishes(asked, source):
    result, factor = asked.of(source), asked.factor(source)
    for side, before in zip(result, source, strict=True):
        assert side >= 1
        assert side == 1 or abs(side - before * factor) <= Fraction(1, 2)


@given(SOURCE, SIDE)
def test_the_side_asked_for_is_exact(source, side):
    assert TargetSize(width=side).of(source)[0] == side
    assert TargetSize(height=side).of(source)[1] == side
    assert max(TargetSize(longest=side).of(source)) == side
    assert min(TargetSize(shortest=side).of(source)) == side


@given(SOURCE, SOURCE)
def test_a_fit_touches_its_box_and_stays_inside(source, box):
    width, height = TargetSize(fit=box).of(source)
    assert width <= box[0]
    assert height <= box[1]
    assert width == box[0] or height == box[1]


@given(ANY, SOURCE)
def test_turning_the_source_turns_the_result(asked, source):
    turned = {
        "width": lambda: TargetSize(height=asked.width),
        "height": lambda: TargetSize(width=asked.height),
        "fit": lambda: TargetSize(fit=asked.fit[::-1]),
    }
    name = next(name for name, value in vars(asked).items() if value is not None)
    other = turned[name]() if name in turned else asked
    assert other.of(source[::-1]) == asked.of(source)[::-1]


def test_odd_sizes_at_one_and_a_half():
    assert TargetSize(scale=1.5).of((543, 337)) == (814, 506)
    assert TargetSize(scale=0.001).of((543, 337)) == (1, 1)


def test_only_what_is_larger_than_four_times_is_beyond_the_networks():
    assert not TargetSize(scale=4).is_beyond_networks((10, 20))
    assert TargetSize(scale=4.01).is_beyond_networks((10, 20))
    assert TargetSize(longest=81).is_beyond_networks((10, 20))
    assert not TargetSize(longest=80).is_beyond_networks((10, 20))


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_factor_must_be_above_0(scale):
    with pytest.raises(ValueError, match="--scale must be a number above 0, got"):
        TargetSize(scale=scale)


def test_one_size_at_most():
    with pytest.raises(ValueError, match="got --scale and --width; give one"):
        TargetSize(scale=2, width=10)


@pytest.mark.parametrize("text", ["", "x", "10", "10x", "x10", "10x-1", "1.5x2", "axb"])
def test_a_box_is_two_numbers(text):
    with pytest.raises(ValueError, match="--fit must be WIDTHxHEIGHT"):
        parse_fit(text)


def test_a_box_is_read():
    assert (
        parse_fit("3840x2160") == parse_fit("3840X2160") == parse_fit("3840 x 2160") == (3840, 2160)
    )
