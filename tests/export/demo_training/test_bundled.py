"""A demo bundle's weights, recovered and trained further."""

import shutil
from dataclasses import astuple, replace

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from dossr.export.checkpoint.config import CONTROL, RESTORER, UNET, VAE
from dossr.export.checkpoint.reader import read_checkpoint
from dossr.export.demo_training.__main__ import main
from dossr.export.demo_training.assemble import text_state
from dossr.export.demo_training.bundled import bundle_config, bundle_states
from dossr.export.demo_training.pool import pieces
from dossr.export.demo_training.recipe import DEVIATION
from dossr.export.demo_training.run import train_demo
from dossr.export.networks.autoencoder import Decoder, Encoder, autoencoder, vae_state
from dossr.export.networks.denoiser import load_denoiser, new_denoiser
from dossr.export.networks.restorer import RRDBNet
from dossr.export.networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from dossr.runtime.bundle import DEMO as BUILT_IN
from dossr.runtime.bundle import Bundle, open_bundle
from dossr.runtime.engines.device import Host
from dossr.runtime.terminal import Silent


@pytest.fixture(scope="module")
def built_in():
    """The built-in bundle, its configuration, its prompt, and its weights by torch's names."""
    bundle = open_bundle(BUILT_IN)
    config = bundle_config(bundle)
    text = embed_prompt(
        text_state(config), config.text, tokenize(DEFAULT_PROMPT, config.text.positions)
    )
    return bundle, config, text, bundle_states(bundle, text)


def test_the_weights_of_a_bundle_are_recovered(built_in, photograph):
    """Networks with the recovered weights compute what the bundle computes."""
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
        engine = Host().open(bundle, stage)
        expected = engine.run(**{name: tensor.numpy() for name, tensor in inputs.items()})
        with torch.no_grad():
            found = rebuilt(**inputs)
        for tensor, array in zip(found, expected.values(), strict=True):
            error = np.linalg.norm(tensor.numpy() - array) / np.linalg.norm(array)
            assert error < 1e-3, stage


_SOLVED = (".attn2.to_k.weight", ".attn2.to_v.weight")  # solved for, as the prompt is folded in


@pytest.mark.parametrize("network", ["restorer", "denoiser"])
def test_only_the_chosen_networks_of_a_bundle_are_trained_further(tmp_path, built_in, network):
    """The latent scale is that of the autoencoder, which is kept."""
    bundle, config, _, states = built_in
    train_demo(tmp_path, "cpu", 16, 3000.0, 0, Silent(), bundle, [network], batch=3)
    settings = torch.load(tmp_path / f"{network}.pt", weights_only=True)["settings"]
    assert settings["batch"] == 3
    checkpoint = read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml")
    assert checkpoint.config == config
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


def test_the_autoencoder_of_a_bundle_is_trained_with_what_its_sampler_adds(tmp_path, built_in):
    """Both its parts move a little; the denoiser's latents keep their scale."""
    bundle, config, _, states = built_in
    train_demo(tmp_path, "cpu", 2, 2400.0, 0, Silent(), bundle, ["autoencoder"])
    checkpoint = read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml")
    assert checkpoint.config == config
    found = vae_state(checkpoint.part(VAE), autoencoder(config))
    moved = {key for key, tensor in states["vae"].items() if not torch.equal(found[key], tensor)}
    assert {key.partition(".")[0] for key in moved} >= {"encoder", "decoder"}
    restored, added, images = torch.load(next(tmp_path.glob("sampled-*.pt")), weights_only=True)
    assert restored.shape == (2, 3, *images.shape[1:3])
    assert 0.0 < float(added.float().abs().mean()) < 1.0
    sharp = pieces(np.load(tmp_path / "images-0.npy"), [1], np.random.default_rng([0, 1, 2]), 256)
    apart = images[1:].numpy().astype(float) - sharp
    assert np.abs(apart).max() > 8  # the bundle's detail in the colours of the sharp image
    assert np.abs(apart.mean((0, 1, 2))).max() < 1


def test_a_new_autoencoder_gets_a_new_latent_scale(tmp_path, built_in):
    """Latents then have the recipe's standard deviation."""
    bundle, config, _, _ = built_in
    train_demo(tmp_path, "cpu", 16, 3000.0, 0, Silent(), bundle, ["autoencoder"], fresh=True)
    found = read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml").config
    x0, _, _ = torch.load(next(tmp_path.glob("latents-*.pt")), weights_only=True)
    assert float(x0.float().std()) * found.latent_scale == pytest.approx(DEVIATION, rel=1e-4)
    assert found == replace(config, latent_scale=found.latent_scale)


def test_equal_weights_that_are_stored_once_are_found_for_both_layers(tmp_path, built_in):
    """The exporter stores equal tensors once; two biases of one sum train alike."""
    bundle, _, text, states = built_in
    shutil.copytree(bundle.folder, tmp_path, dirs_exist_ok=True)
    path = bundle.path("denoiser", "cpu").name
    model = onnx.load(tmp_path / path, load_external_data=False)
    twin, kept = (
        f"{name}_fp16"
        for name in (
            "control.mid_block.resnets.1.conv2.bias",
            "unet.mid_block.resnets.1.conv2.bias",
        )
    )
    (cast,) = (node for node in model.graph.node if twin in node.input)
    cast.input[0] = kept
    model.graph.initializer.remove(next(i for i in model.graph.initializer if i.name == twin))
    onnx.save(model, tmp_path / path)
    found = bundle_states(Bundle(tmp_path, bundle.manifest), text)["denoiser"]
    assert torch.equal(
        found["control.mid_block.resnets.1.conv2.bias"],
        states["denoiser"]["unet.mid_block.resnets.1.conv2.bias"],
    )


def test_the_checkpoint_of_a_bundle_is_written_without_training(tmp_path, built_in):
    _, config, _, states = built_in
    done = CliRunner().invoke(main, [str(tmp_path), "--start", str(BUILT_IN), "--recover"])
    assert done.exit_code == 0, done.stderr
    source = read_checkpoint(tmp_path / "demo.ckpt", tmp_path / "demo.yaml", lambda _size: None)
    assert source.config == config
    found = {name.removeprefix(RESTORER): t for name, t in source.part(RESTORER).items()}
    assert found.keys() == states["restorer"].keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in states["restorer"].items())
    assert not list(tmp_path.glob("images*"))


def test_recovering_needs_a_bundle(tmp_path):
    done = CliRunner().invoke(main, [str(tmp_path / "out"), "--recover"])
    assert done.exit_code == 2
    assert "--recover needs --start" in done.stderr


def test_untrained_networks_need_a_bundle(tmp_path):
    done = CliRunner().invoke(main, [str(tmp_path / "out"), "--network", "denoiser"])
    assert done.exit_code == 2
    assert "networks that are not trained must come from a bundle" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_batch_is_what_the_command_says(tmp_path):
    options = [
        "--start",
        str(BUILT_IN),
        "--network",
        "restorer",
        "--images",
        "16",
        "--speed",
        "4500",
    ]
    done = CliRunner().invoke(main, [str(tmp_path), *options, "--batch", "3"])
    assert done.exit_code == 0
    assert torch.load(tmp_path / "restorer.pt", weights_only=True)["settings"]["batch"] == 3


def test_a_bundle_of_other_networks_is_not_trained_further(toy_bundle, tmp_path):
    done = CliRunner().invoke(main, [str(tmp_path / "out"), "--start", str(toy_bundle)])
    assert done.exit_code == 2
    assert "must hold networks of the recipe's sizes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["--device", "cuda"]])
def test_an_error_is_one_line(tmp_path, monkeypatch, arguments):
    """A folder below a file cannot be made; a GPU may be missing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "file").write_text("mine")
    done = CliRunner().invoke(main, [str(tmp_path / "file" / "out"), *arguments])
    assert done.exit_code == (2 if arguments else 1)
    assert done.stderr.startswith("dossr.export.demo_training: ")
    assert done.stderr.count("\n") == 1
