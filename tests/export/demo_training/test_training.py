"""Initial weights, the training loop, and the whole recipe."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch

from dossr.export.checkpoint.config import CONTROL, RESTORER, UNET, VAE
from dossr.export.checkpoint.reader import read_checkpoint
from dossr.export.demo_training.assemble import official_state, write_yaml
from dossr.export.demo_training.losses import (
    Latents,
    Sampled,
    autoencoder_loss,
    denoiser_loss,
    process,
    restorer_loss,
    whole_loss,
)
from dossr.export.demo_training.pool import as_tensor
from dossr.export.demo_training.recipe import DEMO, OBJECTIVES, RELEASED, Training
from dossr.export.demo_training.run import train_demo
from dossr.export.demo_training.start import (
    start_autoencoder,
    start_denoiser,
    start_restorer,
)
from dossr.export.demo_training.steady import steady_norms
from dossr.export.demo_training.train import train
from dossr.export.networks.autoencoder import Decoder, Encoder, autoencoder, vae_state
from dossr.export.networks.denoiser import denoiser, new_denoiser
from dossr.export.networks.restorer import RRDBNet
from dossr.export.networks.text import embed_prompt, tokenize
from dossr.runtime.terminal import Silent

CPU = torch.device("cpu")


def _nothing(_count):
    pass


def test_the_autoencoder_starts_near_the_identity(photograph):
    """The untrained autoencoder exceeds 20 dB; with random weights it is below 10 dB."""
    torch.manual_seed(0)
    vae = autoencoder(DEMO)
    start_autoencoder(vae, -8.0)
    with torch.no_grad():
        decoded = (vae.decode(vae.encode(2 * photograph - 1).latent_dist.mode()).sample + 1) / 2
    assert float(((decoded - photograph) ** 2).mean()) < 1e-2


@pytest.fixture
def steady(photograph):
    """A new autoencoder whose norms are steady, what it returned before for three unlike images, and how to run it."""
    torch.manual_seed(0)
    vae = autoencoder(DEMO).requires_grad_(False)
    start_autoencoder(vae, -8.0)
    images = [photograph, 0.5 + 0.01 * photograph, torch.zeros_like(photograph)]
    images[2][:, 0, 32:64, 32:64] = 1.0

    def run():
        return [vae.decode(vae.encode(2 * image - 1).latent_dist.mode()).sample for image in images]

    before, spread = run(), _spread(vae, run)
    hold = steady_norms(vae, run)
    return vae, hold, run, before, spread


def test_steady_norms_depend_little_on_the_image_and_keep_the_function(steady):
    """Deviations within groups vary by less than half over unlike images, by more than ten times before."""
    vae, _, run, before, spread = steady
    assert spread > 10.0
    assert _spread(vae, run) < 1.5
    for old, new in zip(before, run(), strict=True):
        assert float((new - old).abs().mean()) < 0.08  # of values in [-1, 1]


def test_steady_norms_make_a_colour_the_same_in_any_surroundings(steady):
    """Red in the middle of black and of white, 60 pixels away: latents differ by less than 2 %."""
    vae, _, _, _, _ = steady
    latents = []
    for ground in (-1.0, 1.0):
        image = torch.full((1, 3, 256, 256), ground)
        image[:, :, 64:192, 64:192] = torch.tensor([1.0, -1.0, -1.0])[:, None, None]
        latents.append(vae.encode(image).latent_dist.mode()[..., 60:68, 60:68])
    assert float((latents[0] - latents[1]).abs().max()) < 0.02 * float(latents[0].abs().max())


def test_steady_norms_are_held(steady):
    """After a step of a training, which moves all weights, and at a second call."""
    vae, hold, run, _, _ = steady
    kept = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    steady_norms(vae, run)
    assert all(torch.equal(kept[name], tensor) for name, tensor in vae.state_dict().items())
    for parameter in vae.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    hold()
    assert _spread(vae, run) < 1.5


def _spread(vae, run):
    """Return the largest ratio of the standard deviations in one group of a norm, over the images of ``run``."""
    seen = {}
    hooks = [
        norm.register_forward_pre_hook(
            lambda norm, inputs: seen.setdefault(norm, []).append(
                inputs[0].reshape(norm.num_groups, -1).std(1)
            )
        )
        for norm in vae.modules()
        if isinstance(norm, torch.nn.GroupNorm)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    ratios = [torch.stack(each).amax(0) / torch.stack(each).amin(0) for each in seen.values()]
    return float(torch.cat(ratios).max())


def test_the_restorer_starts_as_a_smooth_enlargement(photograph):
    torch.manual_seed(0)
    network = RRDBNet(16, 1, 8)
    start_restorer(network)
    with torch.no_grad():
        enlarged = network(photograph)
    smooth = torch.nn.functional.interpolate(photograph, scale_factor=4, mode="bilinear")
    assert float((enlarged - smooth).abs().mean()) < 0.02


@pytest.mark.parametrize("gains", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_denoiser_starts_as_a_sum_of_state_and_hint(gains):
    torch.manual_seed(0)
    network = new_denoiser(DEMO)
    start_denoiser(network, gains)
    x, hint = torch.randn(2, 1, DEMO.unet.latent_channels, 16, 16)
    prompt = torch.randn(1, 77, DEMO.text.width)
    with torch.no_grad():
        eps = network(x, hint, torch.tensor([100.0]), prompt)
    expected = gains[0] * x + gains[1] * hint
    assert float((eps - expected).norm() / expected.norm()) < 0.08


def _losses(folder, name):
    return np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)[:, 1]


def _restorer():
    torch.manual_seed(0)
    return RRDBNet(8, 1, 8)


def _latents(side=16):
    """Return smooth random latents, and weaker copies as those of restored images."""
    torch.manual_seed(0)
    x0 = torch.randn(4, DEMO.vae.latent_channels, side // 4, side // 4)
    x0 = torch.nn.functional.interpolate(x0, scale_factor=4.0, mode="bilinear")
    return Latents(x0.half(), (0.8 * x0).half(), torch.full_like(x0, 0.05).half())


@pytest.mark.parametrize("name", ["restorer", "autoencoder", "denoiser", "further"])
def test_training_lowers_the_loss(tmp_path, pool, name, monkeypatch):
    """The mean loss of the last eight of 48 steps is below that of the first eight."""
    monkeypatch.setattr("dossr.export.demo_training.train._SAVE_EVERY", 8)
    crop = {"denoiser": 16, "further": 128}.get(name, 32)
    training = Training(steps=48, batch=4, crop=crop, rate=2e-3)
    torch.manual_seed(0)
    if name == "restorer":
        network = _restorer()
        loss = restorer_loss(network, pool, training, CPU)
    elif name == "autoencoder":
        network = autoencoder(DEMO)
        start_autoencoder(network, -8.0)
        loss = autoencoder_loss(network, pool, training, CPU)
    elif name == "further":
        network, before = autoencoder(DEMO), autoencoder(DEMO)
        start_autoencoder(network, -8.0)
        before.load_state_dict(network.state_dict())
        torch.nn.init.constant_(network.decoder.conv_out.bias, 0.3)  # too bright
        ends = Encoder(network, 1.0), Decoder(network, 1.0)
        crops = pool[:, :crop, :crop]
        sampled = Sampled(as_tensor(crops).half(), torch.zeros(4, 6, 64, 64).half(), crops)
        before = Encoder(before, 1.0)
        loss = whole_loss(ends, lambda: None, before, sampled, training, CPU)
    else:
        network = new_denoiser(DEMO)
        start_denoiser(network, OBJECTIVES[RELEASED])
        prompt = torch.randn(1, 77, DEMO.text.width)
        learnt = process(RELEASED, DEMO.levels)
        loss = denoiser_loss(network, _latents(), prompt, learnt, training, CPU)
    train(name, network, loss, training, tmp_path, 0, _nothing)
    losses = _losses(tmp_path, name)
    assert len(losses) == 6
    assert losses[-1] < 0.9 * losses[0]


def test_an_interrupted_training_resumes_with_the_same_result(tmp_path, pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.train._SAVE_EVERY", 4)
    training = Training(steps=12, batch=2, crop=32, rate=1e-3)

    def run(folder, stop_at=None):
        folder.mkdir(exist_ok=True)
        network = _restorer()
        loss = restorer_loss(network, pool, training, CPU)

        steps = count()

        def interrupted(random):
            if next(steps) == stop_at:
                raise KeyboardInterrupt
            return loss(random)

        return train("restorer", network, interrupted, training, folder, 0, _nothing)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_at=10)
    resumed = run(tmp_path / "parts")
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())
    np.testing.assert_array_equal(
        _losses(tmp_path / "whole", "restorer"), _losses(tmp_path / "parts", "restorer")
    )
    other = replace(training, crop=16)
    for settings, network, what in (
        (other, _restorer(), "crop"),
        (training, RRDBNet(8, 1, 4), "start"),
    ):
        with pytest.raises(
            ValueError, match=f"is of a training with another {what}; give the same"
        ):
            train("restorer", network, None, settings, tmp_path / "parts", 0, _nothing)


def test_the_checkpoint_is_official_and_has_the_trained_weights(tmp_path):
    """Networks built from the checkpoint, as in dossr-export, compute what was trained."""
    torch.manual_seed(0)
    config = replace(DEMO, latent_scale=0.7)
    widths = DEMO.restorer
    restorer = RRDBNet(widths.features, widths.blocks, widths.growth)
    vae, network = autoencoder(config), new_denoiser(config)
    states = {
        "restorer": restorer.state_dict(),
        "vae": vae.state_dict(),
        "unet": network.unet.state_dict(),
        "control": network.control.state_dict(),
    }
    torch.save(official_state(config, states), tmp_path / "demo.ckpt")
    write_yaml(config, tmp_path / "demo.yaml", RELEASED)
    checkpoint = read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml")
    assert checkpoint.config == config
    assert checkpoint.shares_encoder
    assert all(
        torch.equal(tensor, restorer.state_dict()[name.removeprefix(RESTORER)])
        for name, tensor in checkpoint.part(RESTORER).items()
    )
    rebuilt = vae_state(checkpoint.part(VAE), vae)
    assert all(torch.equal(tensor, rebuilt[name]) for name, tensor in vae.state_dict().items())
    text = checkpoint.part("cond_stage_model.model.")
    prompt = embed_prompt(text, config.text, tokenize("", config.text.positions))
    folded = denoiser(config, checkpoint.part(UNET, CONTROL), prompt)
    x, hint = torch.randn(2, 1, config.vae.latent_channels, 8, 8)
    with torch.no_grad():
        expected = network.eval()(x, hint, torch.tensor([100.0]), prompt)
        torch.testing.assert_close(folded(x, hint, torch.tensor([100.0])), expected)


def test_the_whole_recipe_ends_in_an_official_checkpoint(tmp_path):
    """Train every network for a few steps; a second run has nothing left to train."""
    results = []
    for _ in range(2):
        train_demo(tmp_path, "cpu", 16, 3000.0, 0, Silent())
        results.append(read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml"))
    first, again = results
    assert first.config == replace(DEMO, latent_scale=first.config.latent_scale)
    assert all(torch.equal(tensor, again.tensors[n]) for n, tensor in first.tensors.items())
    assert (tmp_path / "losses.png").stat().st_size > 0
