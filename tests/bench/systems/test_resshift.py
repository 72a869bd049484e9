"""ResShift's sampler, its code search and the parts of its network that have laws of their own."""

from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dossr.bench.measure.backends import built  # noqa: E402
from dossr.bench.systems import load_system  # noqa: E402
from dossr.bench.systems.networks.swin_unet import (  # noqa: E402
    WINDOW,
    from_windows,
    relative_positions,
    shift_mask,
    time_features,
    to_windows,
)
from dossr.bench.systems.networks.vq import quantize  # noqa: E402
from dossr.bench.systems.resshift import STEPS, posterior_steps  # noqa: E402
from dossr.bench.systems.system import Noise  # noqa: E402
from dossr.export.processes.residual import KAPPA, sqrt_eta  # noqa: E402

# Read in the official code, to the digits given there.
SQRT_ETA = (
    *(".02", ".1172", ".1763", ".2336", ".2916", ".3510", ".4124", ".4759"),
    *(".5417", ".6099", ".6807", ".7540", ".8300", ".9086", ".99"),
)


def test_the_schedule_is_the_official_one():
    found = sqrt_eta(STEPS)
    assert len(found) == len(SQRT_ETA)
    for value, digits in zip(found, SQRT_ETA, strict=True):
        assert f"{value:.{len(digits) - 1}f}".lstrip("0") == digits


def test_the_posterior_is_the_product_of_its_two_gaussians():
    """q(x_s | x_t, x0) is proportional to q(x_t | x_s) q(x_s | x0), both as the paper defines them."""
    eta = sqrt_eta(STEPS) ** 2
    x_t, x0, x_lr = np.random.default_rng(0).normal(size=(3, 1000))
    for row in posterior_steps()[:-1]:
        alpha = eta[row.time] - eta[row.time - 1]
        likelihood = x_t - alpha * (x_lr - x0), KAPPA**2 * alpha
        prior = x0 + eta[row.time - 1] * (x_lr - x0), KAPPA**2 * eta[row.time - 1]
        precision = 1.0 / likelihood[1] + 1.0 / prior[1]
        mean = (likelihood[0] / likelihood[1] + prior[0] / prior[1]) / precision
        np.testing.assert_allclose(row.x * x_t + row.x0 * x0, mean, rtol=1e-10, atol=1e-12)
        assert row.noise == pytest.approx(precision**-0.5, rel=1e-12)


def test_steps_keep_the_marginals_of_the_forward_process():
    eta = sqrt_eta(STEPS) ** 2
    for row in posterior_steps()[:-1]:
        now, then = eta[row.time], eta[row.time - 1]
        assert row.x * now == pytest.approx(then, rel=1e-12)  # weight of x_lr
        assert row.x * (1.0 - now) + row.x0 == pytest.approx(1.0 - then, rel=1e-12)
        variance = row.x**2 * KAPPA**2 * now + row.noise**2
        assert variance == pytest.approx(KAPPA**2 * then, rel=1e-12)


def test_noise_is_added_at_every_step_but_the_last():
    steps = posterior_steps()
    assert [row.time for row in steps] == list(range(14, -1, -1))
    assert all(row.noise > 0.0 for row in steps[:-1])
    assert steps[-1].noise == 0.0


class PerfectNetworks:
    """Networks that know x0; they record what the loop passes."""

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.x_lr, self.x0 = torch.randn(2, 1, 3, 64, 64, generator=draw)
        self.passed = []

    def __call__(self, network, /, **inputs):
        self.passed.append((network, inputs))
        if network == "decoder":
            return (torch.zeros(1, 3, 256, 256),)
        return (self.x0 if network == "unet" else self.x_lr,)


@pytest.fixture
def perfect():
    networks = PerfectNetworks()
    lr = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    load_system("resshift-15", 64).upscale(networks, lr, Noise(0))
    return networks, lr


def test_an_exact_prediction_ends_in_exactly_that_latent(perfect):
    networks, _ = perfect
    assert torch.equal(networks.passed[-1][1]["latent"], networks.x0)


def test_the_network_sees_the_low_resolution_image_and_states_of_unit_noise(perfect):
    """The first state is x_lr + 1.98 noise, the later ones have the forward process's marginals."""
    networks, lr = perfect
    eta = sqrt_eta(STEPS) ** 2
    inputs = [inputs for network, inputs in networks.passed if network == "unet"]
    for time, call in zip(range(14, -1, -1), inputs, strict=True):
        assert call["time"].tolist() == [time]
        assert torch.equal(call["lq"], 2.0 * lr - 1.0)
        scale = (KAPPA**2 * eta[time] + 1.0) ** 0.5
        shift = 1.0 if time == 14 else eta[time]
        mean = networks.x0 + shift * (networks.x_lr - networks.x0)
        noise = call["x"] * scale - mean
        # The start takes eta as 1, not as 0.98, of which the next states keep a little.
        assert noise.std().item() == pytest.approx(KAPPA * eta[time] ** 0.5, rel=0.05)


def test_the_image_is_enlarged_before_it_is_encoded(perfect):
    networks, lr = perfect
    name, inputs = networks.passed[0]
    assert name == "encoder"
    assert inputs["image"].shape == (1, 3, 256, 256)
    small = torch.nn.functional.avg_pool2d((inputs["image"] + 1.0) / 2.0, 4)
    assert (small - lr).abs().mean() < 0.1


def test_the_nearest_code_is_the_nearest():
    draw = torch.Generator().manual_seed(0)
    latent = torch.randn(2, 3, 8, 8, generator=draw)
    codebook = torch.randn(50, 3, generator=draw)
    apart = latent.movedim(1, -1)[..., None, :].double() - codebook.double()
    nearest = codebook[apart.square().sum(-1).argmin(-1)].movedim(-1, 1)
    assert torch.equal(quantize(latent, codebook), nearest)


def test_a_tie_broken_otherwise_hardly_moves_the_reduced_image():
    """So torch and ONNX Runtime may disagree about a code and still agree about the image."""
    decoder = built(load_system("resshift-15", 64, reduced=True).network("decoder"))
    draw = torch.Generator().manual_seed(0)
    latent = 0.5 * torch.randn(1, 1, 64, 64, generator=draw)
    nearby = latent + 1e-5 * torch.randn(1, 1, 64, 64, generator=draw)
    codebook = decoder.quantize.embedding.weight
    assert (quantize(latent, codebook) != quantize(nearby, codebook)).sum() > 10
    with torch.inference_mode():
        image, other = decoder(latent), decoder(nearby)
    assert (image - other).norm() / image.norm() < 1e-3


def test_windows_are_cut_and_put_together():
    x = torch.arange(2 * 3 * 16 * 24).reshape(2, 3, 16, 24)
    tokens = to_windows(x)
    assert tokens.shape == (2, 6, WINDOW**2, 3)
    second = x[1, :, 0:8, 8:16].flatten(1).T
    assert torch.equal(tokens[1, 1], second)
    assert torch.equal(from_windows(tokens, 24), x)


def test_rolled_windows_mix_only_pixels_that_were_neighbours():
    side, shift = 24, WINDOW // 2
    pixels = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    before = to_windows(pixels.roll((-shift, -shift), (1, 2))[None])[0]
    near = (before[:, :, None] - before[:, None]).abs().amax(-1) < WINDOW
    mask = shift_mask(side, shift)[:, 0]
    assert torch.equal(mask == 0.0, near)
    assert (mask[~near] <= -100.0).all()


def test_each_displacement_within_a_window_has_a_bias_of_its_own():
    index = relative_positions().tolist()
    at = list(product(range(WINDOW), repeat=2))
    seen = {}
    for i, j in product(range(len(at)), repeat=2):
        displacement = at[i][0] - at[j][0], at[i][1] - at[j][1]
        assert seen.setdefault(displacement, index[i][j]) == index[i][j]
    assert sorted(seen.values()) == list(range(225))


def test_times_are_cosines_then_sines():
    found = time_features(torch.tensor([0.0, 3.0]), 4)
    angle = 3.0 * np.array([1.0, 0.01])
    expected = [[1, 1, 0, 0], [*np.cos(angle), *np.sin(angle)]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_tensors_have_the_official_names():
    with torch.device("meta"):
        unet = load_system("resshift-15", 64).network("unet").build()
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.named_parameters()}
    tops = {name.split(".")[0] for name in shapes}
    assert tops == {"time_embed", "input_blocks", "middle_block", "output_blocks", "out"}
    assert shapes["input_blocks.1.1.blocks.0.attn.relative_position_bias_table"] == (225, 6)
    assert shapes["middle_block.1.patch_embed.proj.weight"] == (192, 640, 1, 1)
    assert shapes["output_blocks.11.0.skip_connection.weight"] == (160, 320, 1, 1)
    swin = {name.split(".blocks.0")[0] for name in shapes if ".blocks.0" in name}
    assert len(swin) == 9
