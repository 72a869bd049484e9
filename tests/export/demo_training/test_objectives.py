"""The objectives of the recipe: what is learnt, how it starts, and that it is trained and resumed."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dossr.export.demo_training.__main__ import main
from dossr.export.demo_training.losses import Latents, denoiser_loss, process
from dossr.export.demo_training.recipe import DEMO, OBJECTIVES, RELEASED, Training
from dossr.export.demo_training.start import start_denoiser
from dossr.export.demo_training.train import train
from dossr.export.networks.denoiser import new_denoiser
from dossr.export.processes.forward import Point
from dossr.runtime.bundle.integrity import DEMO as BUILT_IN
from dossr.solvers import NoiseLevels

CPU = torch.device("cpu")
SMALL = replace(
    DEMO,
    unet=replace(DEMO.unet, channels=(32, 32), attention=(False, True), heads=(2, 2)),
)
ALL = pytest.mark.parametrize("objective", OBJECTIVES)


def _latents():
    """Return smooth random latents, and weaker copies as those of restored images."""
    torch.manual_seed(0)
    x0 = torch.randn(4, DEMO.vae.latent_channels, 4, 4)
    x0 = torch.nn.functional.interpolate(x0, scale_factor=4.0, mode="bilinear")
    return Latents(x0.half(), (0.8 * x0).half(), torch.full_like(x0, 0.05).half())


def _denoiser_loss(objective, steps):
    """Return a small denoiser, its training and its loss."""
    training = Training(steps=steps, batch=4, crop=8, rate=2e-2)
    torch.manual_seed(0)
    network = new_denoiser(SMALL)
    start_denoiser(network, OBJECTIVES[objective])
    prompt = torch.randn(1, 77, DEMO.text.width)
    learnt = process(objective, NoiseLevels())
    return network, training, denoiser_loss(network, _latents(), prompt, learnt, training, CPU)


def _train(objective, folder, stop_at=None):
    """Train for three steps, or until ``stop_at``, and return the averaged weights."""
    folder.mkdir(exist_ok=True)
    network, training, loss = _denoiser_loss(objective, steps=3)
    numbers = count()

    def interrupted(random):
        if next(numbers) == stop_at:
            raise KeyboardInterrupt
        return loss(random)

    return train(objective, network, interrupted, training, folder, 0, lambda _: None)


@torch.no_grad()
def _mean(loss):
    """Return the mean loss of four batches, the same ones at every call."""
    torch.manual_seed(1)
    return float(torch.stack([loss(np.random.default_rng(i)) for i in range(4)]).mean())


def _points(learnt):
    generator = torch.Generator().manual_seed(0)
    tensors = (torch.randn(7, 6, 16, 16, generator=generator, dtype=torch.float64) for _ in "abc")
    level = torch.linspace(learnt.first, learnt.last, 7).round().long()
    return Point(level, *tensors)


@ALL
def test_a_perfect_network_has_no_loss_and_any_other_has(objective):
    learnt = process(objective, NoiseLevels())
    point = _points(learnt)
    target = learnt.target(point)
    assert float(learnt.loss(target, point)) < 1e-24 or objective == RELEASED
    assert float(learnt.loss(target, point)) < 1e-12
    assert float(learnt.loss(target + 0.01, point)) > 1e-5


@ALL
def test_a_batch_has_the_states_of_its_examples(objective):
    """Every example at its own level, as if it were alone."""
    learnt = process(objective, NoiseLevels())
    point = _points(learnt)
    states = learnt.reads(point)
    for i in range(7):
        alone = Point(point.level[i : i + 1], *(v[i : i + 1] for v in _tensors(point)))
        torch.testing.assert_close(learnt.reads(alone), states[i : i + 1], rtol=1e-12, atol=1e-12)


def _tensors(point):
    return point.x0, point.x_lr, point.noise


@ALL
def test_network_times_are_those_of_the_network(objective):
    learnt = process(objective, NoiseLevels())
    assert learnt.first * learnt.pace >= 0
    assert learnt.last * learnt.pace == pytest.approx(499 if objective == RELEASED else 999)


@ALL
def test_training_lowers_the_loss_of_each_objective(tmp_path, objective):
    network, training, loss = _denoiser_loss(objective, steps=16)
    before = _mean(loss)
    train(objective, network, loss, training, tmp_path, 0, lambda _: None)
    assert _mean(loss) < 0.95 * before


@ALL
def test_an_interrupted_objective_resumes_with_the_same_result(tmp_path, objective, monkeypatch):
    monkeypatch.setattr("dossr.export.demo_training.train._SAVE_EVERY", 1)
    whole = _train(objective, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _train(objective, tmp_path / "parts", stop_at=2)
    resumed = _train(objective, tmp_path / "parts")
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())


def _run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "options", [(), ("--network", "denoiser"), ("--fresh", "--network", "restorer")]
)
def test_a_bundle_without_the_objective_is_refused_in_one_line(tmp_path, options):
    result = _run(tmp_path / "f", "--start", BUILT_IN, "--objective", "flow", *options)
    assert result.exit_code == 2
    assert "objective flow" in result.output.splitlines()[-1]
    assert "--fresh" in result.output.splitlines()[-1]
    assert not (tmp_path / "f").exists()


def test_recovering_another_objective_is_refused(tmp_path):
    result = _run(tmp_path / "f", "--start", BUILT_IN, "--recover", "--objective", "flow")
    assert result.exit_code == 2
    assert "objective is dossr" in result.output.splitlines()[-1]
    assert not (tmp_path / "f").exists()


def test_an_unknown_objective_names_the_known_ones(tmp_path):
    result = _run(tmp_path / "f", "--objective", "edm")
    assert result.exit_code == 2
    assert all(name in result.output for name in OBJECTIVES)
