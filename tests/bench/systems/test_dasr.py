"""DASR: mixing experts is mixing networks' weights, for each image of a batch."""

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from dossr.bench.measure.backends import OnnxBackend, TorchBackend  # noqa: E402
from dossr.bench.systems import load_system  # noqa: E402
from dossr.bench.systems.dasr import DasrConfig, Generator, MixedConv, Predictor  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def generator():
    return Generator(DasrConfig(features=8, blocks=2)).requires_grad_(False)


def test_tensors_are_those_of_the_official_files():
    with torch.device("meta"):
        bank = {k: tuple(v.shape) for k, v in Generator(DasrConfig()).state_dict().items()}
        predictor = Predictor(64).state_dict()
    assert len(bank) == 74
    some = {
        "conv_first.weight": (5, 64, 3, 3, 3),
        "body.15.conv2.bias": (5, 64),
        "upconv1.weight": (5, 256, 64, 3, 3),
        "upconv2.bias": (5, 256),
        "conv_hr.weight": (5, 64, 64, 3, 3),
        "conv_last.weight": (5, 3, 64, 3, 3),
    }
    assert some.items() <= bank.items()
    names = [f"ConvNet.{i}" for i in (0, 2, 4, 6, 8, 10)] + ["MappingNet.0", "MappingNet.1"]
    assert list(predictor) == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


@pytest.mark.parametrize("expert", range(5))
def test_a_weight_of_one_chooses_its_expert(expert):
    conv = MixedConv(6, 4)
    x = torch.randn(1, 6, 9, 7)
    found = conv(x, F.one_hot(torch.tensor([expert]), 5).float())
    wanted = F.conv2d(x, conv.weight[expert], conv.bias[expert], padding=1)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_a_convolution_of_mixed_experts_is_the_mix_of_their_results():
    conv = MixedConv(6, 4)
    x, weights = torch.randn(1, 6, 9, 7), torch.randn(1, 5)
    each = [conv(x, row[None]) for row in torch.eye(5)]
    wanted = sum(weight * result for weight, result in zip(weights[0], each, strict=True))
    assert torch.allclose(conv(x, weights), wanted, atol=1e-5)


def test_every_image_of_a_batch_has_its_own_network():
    network, lr, weights = generator(), torch.rand(3, 3, 16, 12), torch.randn(3, 5)
    together = network(lr, weights)
    alone = torch.cat([network(lr[i : i + 1], weights[i : i + 1]) for i in range(3)])
    assert together.shape == (3, 3, 64, 48)
    assert torch.allclose(together, alone, atol=1e-5)
    assert (network(lr, weights.flip(0)) - together).abs().max() > 1e-3


def test_without_experts_the_image_is_only_enlarged():
    lr = torch.rand(1, 3, 16, 12)
    found = generator()(lr, torch.zeros(1, 5))
    assert torch.allclose(found, F.interpolate(lr, scale_factor=4, mode="bilinear"), atol=1e-6)


def test_the_mixed_convolutions_are_the_same_in_onnx():
    """On what the generator adds to the enlarged image, of which a small image shows little."""
    network = load_system("dasr", 64, reduced=True).network("generator")
    lr, weights = torch.rand(1, 3, 64, 64), torch.randn(1, 5)
    with OnnxBackend().open(network) as onnx, TorchBackend().open(network) as eager:
        (base,) = eager(lr=lr, weights=torch.zeros(1, 5))
        found = [run(lr=lr, weights=8.0 * weights)[0] - base for run in (eager, onnx)]
    assert found[0].std() > 1.0
    assert (found[0] - found[1]).norm() / found[0].norm() < 1e-4
