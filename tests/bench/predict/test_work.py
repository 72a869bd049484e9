"""The counts of a layer, by hand."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from dossr.bench.measure.count import count_network  # noqa: E402
from dossr.bench.predict.work import Data, Layer, count_work  # noqa: E402
from dossr.bench.systems import load_system  # noqa: E402
from dossr.bench.systems.system import Figures, Input, Network  # noqa: E402


def network(build, *shapes, tokens=None, calls=1):
    inputs = tuple(Input(f"x{place}", shape, tokens) for place, shape in enumerate(shapes))
    return Network("it", build, inputs, ("y",), calls, Figures())


class Attention(nn.Module):
    def forward(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v)


class Views(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1).transpose(0, 1)[1:].unsqueeze(0)


def test_a_convolution_reads_image_and_weights_and_writes_the_result():
    work = count_work(network(lambda: nn.Conv2d(3, 8, 3, padding=1), (1, 3, 16, 16)))
    (layer,) = work.layers
    assert layer.macs == 8 * 3 * 3 * 3 * 16 * 16
    assert layer.traffic == Data(3 * 256 + 8 * 3 * 9 + 8 + 8 * 256)
    assert work.parameters == work.weights.numbers == 8 * 3 * 9 + 8
    assert work.activations == Data(3 * 256 + 8 * 256)


def test_attention_is_one_layer_whose_scores_never_reach_the_memory():
    heads, tokens, width = 2, 64, 16
    shape = (1, heads, tokens, width)
    work = count_work(network(Attention, shape, shape, shape))
    assert work.layers == {
        Layer(2 * heads * tokens * tokens * width, Data(4 * heads * tokens * width)): 1
    }
    assert work.activations == Data(4 * heads * tokens * width)


def test_attention_over_other_tokens_reads_them_once():
    work = count_work(network(Attention, (1, 2, 64, 16), (1, 2, 7, 16), (1, 2, 7, 16)))
    (layer,) = work.layers
    assert layer == Layer(2 * 2 * 64 * 7 * 16, Data(2 * 2 * 64 * 16 + 2 * 2 * 7 * 16))


def test_an_activation_moves_its_input_and_its_result_and_multiplies_nothing():
    work = count_work(network(nn.SiLU, (1, 4, 8, 8)))
    assert work.layers == {Layer(0, Data(2 * 256)): 1}


def test_views_are_free():
    work = count_work(network(Views, (1, 4, 8, 8)))
    assert work.layers == {}
    assert work.activations == Data(256)


def test_indices_keep_their_size_in_every_precision():
    work = count_work(network(lambda: nn.Embedding(10, 4), (1, 3), tokens=10))
    (layer,) = work.layers
    assert layer.traffic.fixed == 3 * 8
    assert layer.traffic.bytes(2) - layer.traffic.bytes(1) == layer.traffic.numbers


def test_results_that_nobody_needs_are_freed():
    """Three convolutions in a row: the first result is gone when the third is computed."""
    width = 4 * 8 * 8
    layers = [nn.Conv2d(4, 4, 1) for _ in range(3)]
    work = count_work(network(lambda: nn.Sequential(*layers).to("meta"), (1, 4, 8, 8)))
    assert work.activations == Data(3 * width)  # the input is the caller's


@pytest.mark.parametrize("system", ["dasr", "resshift-15"])
def test_multiply_accumulates_are_those_of_table_1(system):
    for each in load_system(system, 64, reduced=True).networks:
        work, count = count_work(each), count_network(each)
        assert work.gmac == pytest.approx(count.gmac, rel=1e-12), each.name
        assert work.parameters == count.parameters
        assert work.calls == each.calls
