"""Trains one network: resumable, seeded at every step, with a moving average and a log."""

import csv
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...runtime.files import whole_file
from .recipe import Training

Loss = Callable[[np.random.Generator], Tensor]
"""The loss of one step, on data drawn from the generator."""

Settings = dict[str, int | float | str]
"""What an interrupted training must share with the one that goes on."""

_SAVE_EVERY = 250
_WARM_UP = 100
_BETAS = (0.9, 0.99)  # of AdamW
_CLIP = 1.0


def train(
    name: str,
    network: nn.Module,
    loss: Loss,
    training: Training,
    folder: Path,
    seed: int,
    advance: Callable[[int], None],
) -> dict[str, Tensor]:
    """Train ``network`` in place and return the moving average of its weights.

    An interrupted run is resumed from ``folder/name.pt`` with the same result, as every step draws
    from a generator of (seed, step); ValueError if that file has other settings or another start.
    ``folder/name.csv`` logs the loss.
    """
    settings = {**asdict(training), "seed": seed, "start": digest(network.state_dict())}
    optimizer = torch.optim.AdamW(network.parameters(), training.rate, _BETAS, weight_decay=1e-4)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    path, first = folder / f"{name}.pt", 0
    if path.is_file():
        kept = torch.load(path, weights_only=True, map_location=next(network.parameters()).device)
        _check_same(path, kept.get("settings", {}), settings)
        network.load_state_dict(kept["network"])
        optimizer.load_state_dict(kept["optimizer"])
        average, first = kept["average"], int(kept["step"])
    advance(first)
    log, began = _Log(folder / f"{name}.csv", first), time.perf_counter()
    network.train()
    for step in range(first, training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.rate * _schedule(step, training.steps)
        optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(seed * 1_000_003 + step)
        value = loss(np.random.default_rng([seed, step]))
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimizer.step()
        _follow(average, network, min(training.average, (1 + step) / (10 + step)))
        log.add(value.item())
        advance(1)
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == training.steps:
            log.write(step + 1, time.perf_counter() - began)
            _save(path, network, optimizer, average, step + 1, settings)
    return average


def digest(*states: dict[str, Tensor]) -> str:
    """Return a short hash of weights."""
    found = hashlib.sha256()
    for state in states:
        for tensor in state.values():
            found.update(tensor.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:12]


def _check_same(path: Path, before: Settings, now: Settings) -> None:
    """Raise ValueError unless a training that was interrupted had the same settings."""
    if other := [name for name, value in now.items() if before.get(name) != value]:
        raise ValueError(
            f"{path} is of a training with another {' and '.join(other)}; give the same options, or "
            "another folder"
        )


def _schedule(step: int, steps: int) -> float:
    """Return the factor of the learning rate: a short warm-up, then a cosine from 1 to 0.01."""
    cosine = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / _WARM_UP) * cosine


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for key, value in network.state_dict().items():
        average[key].lerp_(value, 1.0 - decay)


def _save(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    step: int,
    settings: Settings,
) -> None:
    state = {
        "settings": settings,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "step": step,
    }
    with whole_file(path) as temporary:
        torch.save(state, temporary)


class _Log:
    """A CSV file of mean loss and seconds; resuming drops lines after the saved step."""

    def __init__(self, path: Path, first: int) -> None:
        self._path, self._losses = path, list[float]()
        rows = [["step", "loss", "seconds"]]
        if first and path.is_file():
            with path.open(newline="") as file:
                rows += [row for row in list(csv.reader(file))[1:] if int(row[0]) <= first]
        with whole_file(path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(rows)

    def add(self, loss: float) -> None:
        """Collect the loss of a step."""
        self._losses.append(loss)

    def write(self, step: int, seconds: float) -> None:
        """Append the mean of the collected losses."""
        mean = sum(self._losses) / len(self._losses)
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([step, f"{mean:.5f}", f"{seconds:.1f}"])
        self._losses.clear()
