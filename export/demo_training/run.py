"""Runs the whole recipe: images, restorer, autoencoder, denoiser, checkpoint."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ...runtime import load_pipeline
from ...runtime.bundle import Bundle
from ...runtime.files import whole_file
from ...runtime.terminal import Progress
from ..checkpoint.config import RELEASED, ModelConfig
from ..networks.autoencoder import Decoder, Encoder, autoencoder
from ..networks.denoiser import new_denoiser
from ..networks.restorer import new_restorer
from ..networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from .assemble import official_state, text_state, write_yaml
from .bundled import State, below, bundle_config, bundle_states
from .losses import (
    Latents,
    Sampled,
    autoencoder_loss,
    denoiser_loss,
    encode_pool,
    process,
    restorer_loss,
    sample_pool,
    whole_loss,
)
from .pool import ImageBatch, images
from .recipe import (
    DEMO,
    DEVIATION,
    FURTHER,
    LOG_VARIANCE,
    OBJECTIVES,
    STEADIED,
    TRAININGS,
    VIEWS,
    Training,
    named,
)
from .start import start_autoencoder, start_denoiser, start_restorer
from .steady import steady_norms
from .train import Loss, digest, train

_Network = TypeVar("_Network", bound=nn.Module)

_TRAINED_AS = {"vae": "autoencoder"}  # the network of a state, where their names differ


def train_demo(
    folder: Path,
    device: str,
    count: int,
    speed: float,
    seed: int,
    progress: Progress,
    start: Bundle | None = None,
    networks: Collection[str] = tuple(TRAININGS),
    objectives: Sequence[str] = (RELEASED,),
    fresh: bool = False,
    crop: int | None = None,
    batch: int | None = None,
) -> None:
    """Train networks in ``folder``, and write demo.ckpt, demo.yaml and losses.png there.

    ``objectives``: what denoisers are trained for, in OBJECTIVES, one after the other; other checkpoints
    than DoSSR's are demo-OBJECTIVE.ckpt. ``fresh``: networks that are trained begin with the recipe's
    initial weights, also where ``start`` has them. ``crop``: side of the denoiser's latent crops. ``batch``:
    pieces in a training step.

    ``start``: a bundle whose ``networks`` are trained further, the autoencoder with what its sampler adds to
    latents; others are kept. Raise ValueError where it is needed and missing, or there is no GPU for ``device`` "cuda".
    """
    _check(device, start, networks, objectives, fresh)
    before = _kept(start, networks if fresh else ())
    folder.mkdir(parents=True, exist_ok=True)
    with progress.phase("making images", count) as advance:
        pool = images(folder / f"images-{seed}.npy", count, seed, advance)
    run = _Run(folder, torch.device(device), speed, seed, progress, crop, batch)
    restorer, vae, denoiser = (before.get(name) for name in ("restorer", "vae", "denoiser"))
    if restorer is None or "restorer" in networks:
        restorer = run.restorer(pool, restorer)
    keeps_scale = vae is not None
    if vae is None:
        vae = run.autoencoder(pool)
    elif start and "autoencoder" in networks:
        vae = run.further(start, pool, vae)
    config, trains = bundle_config(start) if start else DEMO, "denoiser" in networks
    if denoiser is None or trains or not keeps_scale:
        config, latents = run.latents(config, restorer, vae, pool, keeps_scale)
    for objective in objectives:
        states = {"restorer": restorer, "vae": vae, "denoiser": denoiser or {}}
        if denoiser is None or trains:
            states["denoiser"] = run.denoiser(config, latents, denoiser, objective)
        _write_checkpoint(folder, config, states, objective)
        plot_losses(folder)


def recover_checkpoint(folder: Path, start: Bundle) -> None:
    """Write demo.ckpt and demo.yaml of a demo bundle, without training, to export it again.

    Weights are those that the bundle stores, in its precision. Raise ValueError where one is missing.
    """
    config = bundle_config(start)
    folder.mkdir(parents=True, exist_ok=True)
    _write_checkpoint(folder, config, bundle_states(start, _prompt(config)), RELEASED)


def _check(
    device: str,
    start: Bundle | None,
    networks: Collection[str],
    objectives: Sequence[str],
    fresh: bool,
) -> None:
    """Raise ValueError where the GPU or the bundle is missing, or its denoiser has another objective."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be cpu where torch finds no NVIDIA GPU, got cuda")
    if not start and set(networks) != set(TRAININGS):
        raise ValueError("networks that are not trained must come from a bundle; give --start")
    others = [objective for objective in objectives if objective != RELEASED]
    if start and others and not (fresh and "denoiser" in networks):
        raise ValueError(
            f"{start.folder} must hold a denoiser of the objective {others[0]}, and it holds one of "
            f"{RELEASED}; give --fresh and --network denoiser to train one"
        )


def _kept(start: Bundle | None, dropped: Collection[str]) -> dict[str, State]:
    """Return the states of a bundle without those of some networks."""
    states = bundle_states(start, _prompt(bundle_config(start))) if start else {}
    return {n: s for n, s in states.items() if _TRAINED_AS.get(n, n) not in dropped}


def _write_checkpoint(
    folder: Path, config: ModelConfig, states: Mapping[str, State], objective: str
) -> None:
    denoiser = states["denoiser"]
    parts = {
        "restorer": states["restorer"],
        "vae": states["vae"],
        "unet": below(denoiser, "unet."),
        "control": below(denoiser, "control."),
    }
    name = named("demo", objective)
    with whole_file(folder / f"{name}.ckpt") as temporary:
        torch.save(official_state(config, parts), temporary)
    write_yaml(config, folder / f"{name}.yaml", objective)


def plot_losses(folder: Path) -> None:
    """Draw the loss curves of a training folder to losses.png."""
    import matplotlib.pyplot as plt

    names = [*TRAININGS, *(named("denoiser", each) for each in OBJECTIVES if each != RELEASED)]
    logs = {name: folder / f"{name}.csv" for name in names}
    trained = [
        name for name, log in logs.items() if log.is_file() and len(log.read_text().split()) > 1
    ]
    size = (4 * len(trained), 3.2)
    figure, axes = plt.subplots(1, len(trained), figsize=size, layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], trained, strict=True):
        steps, losses, _ = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2).T
        axis.plot(steps, losses)
        axis.set(title=name, xlabel="step", ylabel="loss", yscale="log")
        axis.grid(alpha=0.3, which="both")
    with whole_file(folder / "losses.png") as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


@dataclass(frozen=True)
class _Run:
    """One training run; methods train one network and return its averaged weights."""

    folder: Path
    device: torch.device
    speed: float
    seed: int
    progress: Progress
    crop: int | None
    """Side of the denoiser's crops; None for the recipe's."""

    batch: int | None
    """Pieces in a step; None for the recipe's."""

    def restorer(self, pool: ImageBatch, before: State | None) -> State:
        network = self._new(partial(new_restorer, DEMO.restorer), before, start_restorer)
        training = self._training(TRAININGS["restorer"])
        loss = restorer_loss(network, pool, training, self.device)
        return self._train("restorer", network, loss, training)

    def autoencoder(self, pool: ImageBatch) -> State:
        start = partial(start_autoencoder, log_variance=LOG_VARIANCE)
        vae = self._new(partial(autoencoder, DEMO), None, start)
        training = self._training(TRAININGS["autoencoder"])
        loss = autoencoder_loss(vae, pool, training, self.device)
        return self._train("autoencoder", vae, loss, training)

    def further(self, start: Bundle, pool: ImageBatch, before: State) -> State:
        """Train the autoencoder of a bundle."""
        config, training = bundle_config(start), self._training(FURTHER)
        vae, old = autoencoder(config), autoencoder(config)
        for each in (vae, old):
            each.load_state_dict(before)
            each.to(self.device)
        scale = config.latent_scale
        ends, sampled = (Encoder(vae, scale), Decoder(vae, scale)), self._sampled(start, pool)
        hold = self._steady(vae, ends, sampled, before)
        loss = whole_loss(ends, hold, Encoder(old, scale), sampled, training, self.device)
        vae.load_state_dict(self._train("autoencoder", vae, loss, training))
        hold()
        trained: State = vae.state_dict()
        return trained

    def _steady(
        self, vae: AutoencoderKL, ends: tuple[Encoder, Decoder], sampled: Sampled, before: State
    ) -> Callable[[], None]:
        """Make norms steady, or take that from a file: its last bits change with the number of threads."""
        path = self.folder / f"steady-{digest(before)}.pt"
        if path.is_file():
            vae.load_state_dict(torch.load(path, weights_only=True, map_location=self.device))

        def run() -> None:
            encoder, decoder = ends
            for number in range(0, len(sampled.images), max(1, len(sampled.images) // STEADIED)):
                image = sampled.restored[number : number + 1].float().to(self.device)
                added = sampled.added[number : number + 1].float().to(self.device)
                decoder(encoder(image)[0] + added)

        hold = steady_norms(vae, run)
        if not path.is_file():
            with whole_file(path) as temporary:
                torch.save(vae.state_dict(), temporary)
        return hold

    def _sampled(self, start: Bundle, pool: ImageBatch) -> Sampled:
        """Return what a bundle makes of a pool, from a file, which is written first if needed."""
        bundle = start.manifest.checkpoint_sha256[:12]
        path = self.folder / f"sampled-{len(pool)}-{self.seed}-{bundle}.pt"
        if path.is_file():
            restored, added, images = torch.load(path, weights_only=True)
            return Sampled(restored, added, images.numpy())
        place = "cpu" if self.device.type == "cpu" else "auto"
        with self.progress.phase("sampling", len(pool)) as advance:
            found = sample_pool(load_pipeline(start.folder, place), pool, self.seed, advance)
        with whole_file(path) as temporary:
            torch.save((found.restored, found.added, torch.from_numpy(found.images)), temporary)
        return found

    def latents(
        self, config: ModelConfig, restorer: State, vae: State, pool: ImageBatch, keeps_scale: bool
    ) -> tuple[ModelConfig, Latents]:
        """Return the pool's scaled latents, and the configuration with their scale."""
        raw = self._encode(restorer, vae, pool)
        scale = config.latent_scale if keeps_scale else _scale(raw)
        scaled = Latents(*(v * scale for v in (raw.x0, raw.mean, raw.std)))
        return replace(config, latent_scale=scale), scaled

    def _encode(self, restorer: State, vae: State, pool: ImageBatch) -> Latents:
        """Return the pool's latents before scaling."""
        network, whole = new_restorer(DEMO.restorer), autoencoder(DEMO)
        network.load_state_dict(restorer)
        whole.load_state_dict(vae)
        network.to(self.device).eval()
        encoder = Encoder(whole, 1.0).to(self.device).eval()
        path = self.folder / f"latents-{len(pool) * VIEWS}-{self.seed}-{digest(restorer, vae)}.pt"
        if path.is_file():
            raw = Latents(*torch.load(path, weights_only=True))
        else:
            with self.progress.phase("encoding images", len(pool) * VIEWS) as advance:
                raw = encode_pool(network, encoder, pool, self.seed, self.device, advance)
            with whole_file(path) as temporary:
                torch.save((raw.x0, raw.mean, raw.std), temporary)
        return raw

    def denoiser(
        self, config: ModelConfig, latents: Latents, before: State | None, objective: str
    ) -> State:
        start = partial(start_denoiser, gains=OBJECTIVES[objective])
        network = self._new(partial(new_denoiser, config), before, start)
        training = self._training(TRAININGS["denoiser"])
        training = replace(training, crop=self.crop or training.crop)
        prompt = _prompt(config).to(self.device)
        learnt = process(objective, config.levels)
        loss = denoiser_loss(network, latents, prompt, learnt, training, self.device)
        return self._train(named("denoiser", objective), network, loss, training)

    def _new(
        self,
        make: Callable[[], _Network],
        before: State | None,
        start: Callable[[_Network], None],
    ) -> _Network:
        """Return a network with given weights, or with the recipe's initial weights."""
        torch.manual_seed(self.seed)
        network = make()
        if before:
            network.load_state_dict(before)
        else:
            start(network)
        network.to(self.device)
        return network

    def _training(self, training: Training) -> Training:
        steps = max(1, round(training.steps / self.speed))
        return replace(training, steps=steps, batch=self.batch or training.batch)

    def _train(self, name: str, network: nn.Module, loss: Loss, training: Training) -> State:
        with self.progress.phase(f"training the {name}", training.steps) as advance:
            if self.device.type == "cuda" or name == "restorer":  # on CPUs, norms are slower in it
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return train(name, network, loss, training, self.folder, self.seed, advance)


def _prompt(config: ModelConfig) -> Tensor:
    """Return the constant prompt's embedding."""
    tokens = tokenize(DEFAULT_PROMPT, config.text.positions)
    return embed_prompt(text_state(config), config.text, tokens)


def _scale(latents: Latents) -> float:
    """Return the scale that gives the sharp images' latents the recipe's standard deviation."""
    return round(DEVIATION / float(latents.x0.float().std()), 6)
