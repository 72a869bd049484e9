"""Laws of the roofline."""

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as some  # noqa: E402
from torch import nn  # noqa: E402

from dossr.bench.predict.devices import Device, Figure, read_catalogue  # noqa: E402
from dossr.bench.predict.roofline import (  # noqa: E402
    Roofline,
    bound,
    memory,
    roofline,
    total,
)
from dossr.bench.predict.work import Data, Layer, Work, count_work  # noqa: E402
from dossr.bench.systems.system import Figures, Input, Network  # noqa: E402

SPEEDS = some.floats(1e6, 1e15)
LAYERS = some.dictionaries(
    some.builds(Layer, some.integers(0, 10**12), some.builds(Data, some.integers(1, 10**10))),
    some.integers(1, 9),
    min_size=1,
    max_size=9,
)


def work(layers, calls=1):
    return Work("it", calls, 0, Data(), Data(), layers)


@given(LAYERS, SPEEDS, SPEEDS, some.booleans())
def test_more_bandwidth_or_more_arithmetic_is_never_slower(layers, macs, moved, is_fused):
    seconds = bound(work(layers), Roofline(macs, moved, 2, is_fused)).seconds
    assert bound(work(layers), Roofline(macs, 2 * moved, 2, is_fused)).seconds <= seconds
    assert bound(work(layers), Roofline(2 * macs, moved, 2, is_fused)).seconds <= seconds
    assert bound(work(layers), Roofline(macs, moved, 1, is_fused)).seconds <= seconds


@given(LAYERS, SPEEDS, SPEEDS)
def test_fusing_is_never_slower(layers, macs, moved):
    fused, apart = (
        bound(work(layers), Roofline(macs, moved, 2, is_fused)).seconds
        for is_fused in (True, False)
    )
    assert fused <= apart


@given(LAYERS, SPEEDS)
def test_without_a_limit_of_memory_only_arithmetic_counts(layers, macs):
    found = bound(work(layers), Roofline(macs, float("inf"), 4, is_fused=False))
    expected = sum(layer.macs * count for layer, count in layers.items()) / macs
    assert found.seconds == pytest.approx(expected)
    assert found.memory_bound_share == 0.0


@given(LAYERS, SPEEDS)
def test_without_a_limit_of_arithmetic_only_bytes_count(layers, moved):
    found = bound(work(layers), Roofline(float("inf"), moved, 2, is_fused=False))
    expected = sum(2 * layer.traffic.numbers * count for layer, count in layers.items()) / moved
    assert found.seconds == pytest.approx(expected)
    assert found.memory_bound_share == pytest.approx(1.0)


def test_two_halves_of_a_network_add_up():
    def counted(build, channels):
        spec = Input("x", (1, channels, 16, 16))
        return count_work(Network("it", build, (spec,), ("y",), 1, Figures()))

    def first():
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU())

    def second():
        return nn.Sequential(nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1))

    line = Roofline(1e9, 1e9, 4, is_fused=False)
    parts = [bound(counted(first, 3), line), bound(counted(second, 8), line)]
    whole = bound(counted(lambda: nn.Sequential(first(), second()), 3), line)
    assert whole.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert total(parts)[1] == pytest.approx(whole.memory_bound_share)


def test_calls_multiply():
    layers, line = {Layer(10**6, Data(10**3)): 2}, Roofline(1e9, 1e9, 4, is_fused=True)
    assert bound(work(layers, calls=50), line).seconds == pytest.approx(50 * 2 * 1e-3)


def test_memory_is_all_weights_and_the_largest_intermediate_results():
    small = Work("a", 1, 0, Data(100), Data(10), {})
    large = Work("b", 1, 0, Data(200, fixed=8), Data(50, fixed=4), {})
    assert memory([small, large], 2) == 2 * 300 + 8 + 2 * 50 + 4


def test_a_published_operation_is_half_a_multiply_accumulate():
    figure = Figure(2.0, "somewhere")
    device = Device("it", "It", "test", {"fp16": figure}, bandwidth=Figure(3.0, "somewhere"))
    assert roofline(device, "fp16", "torch") == Roofline(1e12, 3e9, 2, is_fused=False)
    with pytest.raises(ValueError, match="no published int8 rate was found for it, only of: fp16"):
        roofline(device, "int8", "torch")


CATALOGUE = read_catalogue()


@pytest.mark.parametrize("device", CATALOGUE.devices, ids=lambda device: device.name)
def test_every_figure_has_a_source(device):
    figures = [*device.rates.values(), device.bandwidth, device.memory, device.power]
    for figure in filter(None, figures):
        assert figure.value > 0
        source = CATALOGUE.sources[figure.source]
        assert source.document
        assert source.read
        assert source.url.startswith("https://") or "quotation" in source.read


@pytest.mark.parametrize("device", CATALOGUE.devices, ids=lambda device: device.name)
def test_a_narrower_precision_is_not_slower(device):
    order = [name for name in ("fp32", "tf32", "fp16", "int8") if name in device.rates]
    rates = [device.rates[name].value for name in order]
    assert rates == sorted(rates)


def test_a_rate_that_is_printed_with_sparsity_is_halved():
    """The number in the note is the vendor's; what is used is at most half of it."""
    import re

    for device in CATALOGUE.devices:
        for name, figure in device.rates.items():
            if found := re.search(r"^half of the printed ([\d,.]+)[ ,]", figure.note):
                printed = float(found[1].rstrip(",").replace(",", ""))
                if "less" not in figure.note:
                    assert figure.value == pytest.approx(printed / 2), (device.name, name)


def test_every_source_and_every_name_is_used_once():
    used = {
        figure.source
        for device in CATALOGUE.devices
        for figure in (*device.rates.values(), device.bandwidth, device.memory, device.power)
        if figure
    }
    assert used == set(CATALOGUE.sources)
    names = [device.name for device in CATALOGUE.devices]
    assert len(set(names)) == len(names)
