"""The demo recipe: its data, its training loop, and the checkpoint that comes out."""

import shutil
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from dossr.export.checkpoint.config import CONTROL, RESTORER, UNET, VAE
from dossr.export.checkpoint.reader import read_checkpoint
from dossr.export.demo_training.__main__ import main
from dossr.export.demo_training.assemble import official_state, text_state, write_yaml
from dossr.export.demo_training.bundled import bundle_config, bundle_states
from dossr.export.demo_training.degrade import Degradation
from dossr.export.demo_training.images import procedural_image, texture
from dossr.export.demo_training.losses import (
    Latents,
    autoencoder_loss,
    denoiser_loss,
    restorer_loss,
)
from dossr.export.demo_training.pool import as_tensor, images, photographic, sharp_batch
from dossr.export.demo_training.recipe import DEMO, DEVIATION, Training
from dossr.export.demo_training.run import train_demo
from dossr.export.demo_training.start import (
    HINT_GAIN,
    X_GAIN,
    start_autoencoder,
    start_denoiser,
    start_restorer,
)
from dossr.export.demo_training.train import train
from dossr.export.networks.autoencoder import Decoder, Encoder, autoencoder, vae_state
from dossr.export.networks.denoiser import denoiser, load_denoiser, new_denoiser
from dossr.export.networks.restorer import RRDBNet
from dossr.export.networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from dossr.runtime.bundle import DEMO as BUILT_IN
from dossr.runtime.bundle import Bundle, open_bundle
from dossr.runtime.engines.device import load_engine
from dossr.runtime.terminal import Silent

CPU = torch.device("cpu")


def _nothing(count):
    pass


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return images(tmp_path_factory.mktemp("pool") / "images.npy", 4, 0, _nothing)


def test_an_image_is_a_function_of_its_seed():
    first, again, other = (procedural_image(np.random.default_rng(s), 64) for s in (1, 1, 2))
    assert (first.dtype, first.shape) == (np.uint8, (64, 64, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_have_the_edges_of_photographs():
    """Gradients are heavy-tailed: mostly flat, with strong edges; noise has a kurtosis of 3."""
    kurtosis = []
    for seed in range(12):
        grey = procedural_image(np.random.default_rng(seed), 128).mean(2)
        gradient = np.diff(grey, axis=1).ravel()
        kurtosis.append(np.mean(gradient**4) / np.mean(gradient**2) ** 2)
    assert np.median(kurtosis) > 8


def _elongation(pattern):
    """Deviation of the gradient across a pattern's structure over that along it."""
    gy, gx = (g.ravel() for g in np.gradient(pattern))
    low, high = np.linalg.eigvalsh(np.array([[gy @ gy, gx @ gy], [gx @ gy, gx @ gx]]))
    return np.sqrt(high / low)


def test_a_stretched_texture_has_a_direction():
    for seed in range(8):
        even, long = (texture(np.random.default_rng(seed), 128, 1.0, s) for s in (1.0, 8.0))
        assert _elongation(even) < 1.05
        assert _elongation(long) > 1.8


def test_the_pool_does_not_depend_on_the_processes_that_make_it(tmp_path, pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.pool._WORTH_A_PROCESS", 2)
    monkeypatch.setattr("dossr.export.demo_training.pool.os.cpu_count", lambda: 2)
    np.testing.assert_array_equal(images(tmp_path / "p.npy", 4, 0, _nothing), pool)


def test_the_pool_is_made_once_and_is_the_same_when_made_again(tmp_path, pool):
    made = []
    first = images(tmp_path / "p.npy", 4, 0, made.append)
    again = images(tmp_path / "p.npy", 4, 0, made.append)
    assert len(made) == 4
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, pool)


def test_a_degraded_image_is_a_quarter_and_a_function_of_its_seed(pool):
    lr = Degradation()(pool[0], np.random.default_rng(3))
    assert (lr.dtype, lr.shape) == (np.uint8, (64, 64, 3))
    np.testing.assert_array_equal(lr, Degradation()(pool[0], np.random.default_rng(3)))
    with pytest.raises(ValueError, match="sides must be multiples of 4, got 30 x 32"):
        Degradation()(pool[0][:30, :32], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("mild", "strong"),
    [
        ({"noise": (1, 1)}, {"noise": (20, 20)}),
        ({"blur": (0.1, 0.1)}, {"blur": (4, 4)}),
        ({"jpeg": (95, 95)}, {"jpeg": (20, 20)}),
    ],
)
def test_each_degradation_takes_something_away(pool, mild, strong):
    clean = Degradation(blur=(0, 0), noise=(0, 0), jpeg=(100, 100))

    def error(change):
        results = []
        for seed, image in enumerate(pool):
            lr = replace(clean, **change)(image, np.random.default_rng(seed)).astype(float)
            plain = clean(image, np.random.default_rng(seed))
            results.append(np.mean((lr - plain) ** 2))
        return np.mean(results)

    assert error(strong) > 2 * error(mild)


_NO_TEXTURE = (1e-6, 1e-6)  # draws the same numbers as a visible one


def _pieces(pool):
    """Eight pieces of every image, from one seed."""
    return photographic(np.concatenate([pool] * 8), np.random.default_rng(0), 64).astype(float)


def _steepness(pieces):
    return np.abs(np.diff(pieces, axis=1)).mean()


def test_pieces_are_softer_and_flatter_than_the_images(pool, monkeypatch):
    """Before the texture, which is tested by itself."""
    monkeypatch.setattr("dossr.export.demo_training.pool.TEXTURE", _NO_TEXTURE)
    sharp = sharp_batch(pool, np.random.default_rng(0), 32, 64).astype(float)
    soft = _pieces(pool)
    assert soft.shape == sharp.shape
    assert soft.std((1, 2)).mean() < 0.85 * sharp.std((1, 2)).mean()
    assert _steepness(soft) < 0.6 * _steepness(sharp)


def test_a_texture_adds_fine_detail_and_leaves_the_contrast(pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.pool.TEXTURED", 1.0)
    textured = _pieces(pool)
    np.testing.assert_array_equal(textured, _pieces(pool))
    monkeypatch.setattr("dossr.export.demo_training.pool.TEXTURE", _NO_TEXTURE)
    plain = _pieces(pool)
    assert _steepness(textured) > 1.1 * _steepness(plain)
    assert textured.std((1, 2)).mean() < 1.1 * plain.std((1, 2)).mean()


@pytest.fixture(scope="module")
def photograph():
    """Float32 (1, 3, 128, 128) in [0, 1]."""
    from PIL import Image

    image = np.asarray(Image.open(Path(__file__).parents[2] / "images" / "astronaut.png"))
    return as_tensor(image[None, :, :, :3])


def test_the_autoencoder_starts_near_the_identity(photograph):
    """Above 20 dB untrained; with fresh weights it is below 10."""
    torch.manual_seed(0)
    vae = autoencoder(DEMO)
    start_autoencoder(vae, -8.0)
    with torch.no_grad():
        decoded = (vae.decode(vae.encode(2 * photograph - 1).latent_dist.mode()).sample + 1) / 2
    assert float(((decoded - photograph) ** 2).mean()) < 1e-2


def test_the_restorer_starts_as_a_smooth_enlargement(photograph):
    torch.manual_seed(0)
    network = RRDBNet(16, 1, 8)
    start_restorer(network)
    with torch.no_grad():
        enlarged = network(photograph)
    smooth = torch.nn.functional.interpolate(photograph, scale_factor=4, mode="bilinear")
    assert float((enlarged - smooth).abs().mean()) < 0.02


def test_the_denoiser_starts_as_a_sum_of_state_and_hint():
    torch.manual_seed(0)
    network = new_denoiser(DEMO)
    start_denoiser(network)
    x, hint = torch.randn(2, 1, DEMO.unet.latent_channels, 16, 16)
    prompt = torch.randn(1, 77, DEMO.text.width)
    with torch.no_grad():
        eps = network(x, hint, torch.tensor([100.0]), prompt)
    expected = X_GAIN * x + HINT_GAIN * hint
    assert float((eps - expected).norm() / expected.norm()) < 0.05


def _losses(folder, name):
    return np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)[:, 1]


def _restorer():
    torch.manual_seed(0)
    return RRDBNet(8, 1, 8)


def _latents(side=16):
    """Smooth random latents, and blurred copies of them as the restored images'."""
    torch.manual_seed(0)
    x0 = torch.randn(4, DEMO.vae.latent_channels, side // 4, side // 4)
    x0 = torch.nn.functional.interpolate(x0, scale_factor=4.0, mode="bilinear")
    return Latents(x0.half(), (0.8 * x0).half(), torch.full_like(x0, 0.05).half())


@pytest.mark.parametrize("name", ["restorer", "autoencoder", "denoiser"])
def test_training_lowers_the_loss(tmp_path, pool, name, monkeypatch):
    """A few dozen steps on a few images; mean loss of the last eight below that of the first."""
    monkeypatch.setattr("dossr.export.demo_training.train._SAVE_EVERY", 8)
    training = Training(steps=48, batch=4, crop=32 if name != "denoiser" else 16, rate=2e-3)
    torch.manual_seed(0)
    if name == "restorer":
        network = _restorer()
        loss = restorer_loss(network, pool, training, CPU)
    elif name == "autoencoder":
        network = autoencoder(DEMO)
        start_autoencoder(network, -8.0)
        loss = autoencoder_loss(network, pool, training, CPU)
    else:
        network = new_denoiser(DEMO)
        start_denoiser(network)
        prompt = torch.randn(1, 77, DEMO.text.width)
        loss = denoiser_loss(network, _latents(), prompt, DEMO.levels, training, CPU)
    train(name, network, loss, training, tmp_path, 0, _nothing)
    losses = _losses(tmp_path, name)
    assert len(losses) == 6
    assert losses[-1] < 0.9 * losses[0]


def test_a_broken_off_training_goes_on_as_if_nothing_had_happened(tmp_path, pool, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.train._SAVE_EVERY", 4)
    training = Training(steps=12, batch=2, crop=32, rate=1e-3)

    def run(folder, stop_at=None):
        folder.mkdir(exist_ok=True)
        network = _restorer()
        loss = restorer_loss(network, pool, training, CPU)

        def breaking(step, random):
            if step == stop_at:
                raise KeyboardInterrupt
            return loss(step, random)

        return train("restorer", network, breaking, training, folder, 0, _nothing)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_at=10)
    resumed = run(tmp_path / "parts")
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())
    np.testing.assert_array_equal(
        _losses(tmp_path / "whole", "restorer"), _losses(tmp_path / "parts", "restorer")
    )


def test_the_checkpoint_is_official_and_holds_the_trained_networks(tmp_path):
    """Read back and built as dossr-export does it, the networks compute what was trained."""
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
    write_yaml(config, tmp_path / "demo.yaml")
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
    """Every network for a few steps; given again, the same command has nothing left to train."""
    results = []
    for _ in range(2):
        train_demo(tmp_path, "cpu", 16, 3000.0, 0, Silent())
        results.append(read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml"))
    first, again = results
    assert first.config == replace(DEMO, latent_scale=first.config.latent_scale)
    assert all(torch.equal(tensor, again.tensors[n]) for n, tensor in first.tensors.items())
    assert (tmp_path / "losses.png").stat().st_size > 0


@pytest.fixture(scope="module")
def built_in():
    """The shipped bundle, and its weights as torch has them."""
    bundle = open_bundle(BUILT_IN)
    config = bundle_config(bundle)
    text = embed_prompt(
        text_state(config), config.text, tokenize(DEFAULT_PROMPT, config.text.positions)
    )
    return bundle, config, text, bundle_states(bundle, text)


def test_a_bundle_gives_back_the_weights_that_it_was_made_of(built_in, photograph):
    """Rebuilt from it, every network computes what the bundle computes."""
    bundle, config, text, states = built_in
    vae, network = autoencoder(config), new_denoiser(config)
    restorer = RRDBNet(*astuple(config.restorer))
    for module, name in ((restorer, "restorer"), (vae, "vae"), (network, "denoiser")):
        module.load_state_dict(states[name])
        module.eval()
    hint = torch.randn(1, config.vae.latent_channels, 16, 16)
    x, time = torch.randn_like(hint), torch.tensor([200.0])
    encode = Encoder(vae, config.latent_scale)
    cases = {
        "restorer": ({"lr": photograph}, lambda lr: [restorer(lr).clamp(0.0, 1.0)]),
        "encoder": ({"restored": photograph}, encode),
        "decoder": ({"x": x}, lambda x: [Decoder(vae, config.latent_scale)(x)]),
        "denoiser": (
            {"x": x, "hint": hint, "time": time},
            lambda x, hint, time: [network(x, hint, time, text)],
        ),
    }
    for stage, (inputs, rebuilt) in cases.items():
        engine = load_engine(bundle.path(stage), "cpu")
        expected = engine.run(**{name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.no_grad():
            found = rebuilt(**inputs)
        for tensor, array in zip(found, expected.values(), strict=True):
            error = np.linalg.norm(tensor.numpy() - array) / np.linalg.norm(array)
            assert error < 1e-3, stage


_SOLVED = (".attn2.to_k.weight", ".attn2.to_v.weight")  # the prompt is folded into their results


@pytest.mark.parametrize("network", ["restorer", "denoiser"])
def test_training_on_from_a_bundle_changes_what_is_asked_for(tmp_path, built_in, network):
    """And measures the latents' scale anew, so that they have the recipe's deviation."""
    bundle, config, _, states = built_in
    train_demo(tmp_path, "cpu", 16, 3000.0, 0, Silent(), bundle, [network])
    checkpoint = read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml")
    scale = checkpoint.config.latent_scale
    assert checkpoint.config == replace(config, latent_scale=scale)
    x0, _, _ = torch.load(next(tmp_path.glob("latents-*.pt")), weights_only=True)
    assert float(x0.float().std()) * scale == pytest.approx(DEVIATION, rel=1e-4)
    found = {
        "restorer": {n.removeprefix(RESTORER): t for n, t in checkpoint.part(RESTORER).items()},
        "vae": vae_state(checkpoint.part(VAE), autoencoder(config)),
        "denoiser": load_denoiser(config, checkpoint.part(UNET, CONTROL)).state_dict(),
    }
    moved = [float((found[network][n] - t).norm() / t.norm()) for n, t in states[network].items()]
    assert 0.0 < np.median(moved) < 0.1
    for name in states.keys() - {network}:
        for key, tensor in states[name].items():
            if key.endswith(_SOLVED):
                torch.testing.assert_close(found[name][key], tensor, rtol=1e-4, atol=1e-5)
            else:
                assert torch.equal(found[name][key], tensor)
    assert [path.stem for path in tmp_path.glob("*.csv")] == [network]


def test_a_weight_that_is_stored_once_for_two_is_found_for_both(tmp_path, built_in):
    """The exporter stores equal tensors once; two biases of one sum train alike."""
    bundle, _, text, states = built_in
    shutil.copytree(bundle.folder, tmp_path, dirs_exist_ok=True)
    path = bundle.path("denoiser").name
    model = onnx.load(tmp_path / path, load_external_data=False)
    twin, kept = (
        f"{name}_fp16"
        for name in ("control.controlnet_mid_block.bias", "unet.mid_block.resnets.1.conv2.bias")
    )
    (user,) = (node for node in model.graph.node if twin in node.input)
    user.input[2] = kept
    model.graph.initializer.remove(next(i for i in model.graph.initializer if i.name == twin))
    onnx.save(model, tmp_path / path)
    found = bundle_states(Bundle(tmp_path, bundle.manifest), text)["denoiser"]
    assert torch.equal(
        found["control.controlnet_mid_block.bias"],
        states["denoiser"]["unet.mid_block.resnets.1.conv2.bias"],
    )


def test_networks_are_not_kept_from_nowhere(tmp_path):
    done = CliRunner().invoke(main, [str(tmp_path / "out"), "--network", "denoiser"])
    assert done.exit_code == 2
    assert "networks must come from --start" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_bundle_of_other_networks_is_not_trained_further(toy_bundle, tmp_path):
    done = CliRunner().invoke(main, [str(tmp_path / "out"), "--start", str(toy_bundle)])
    assert done.exit_code == 2
    assert "must hold networks of the recipe's sizes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
