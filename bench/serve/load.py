"""Clients that send images to a server, one after the other, side by side."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from itertools import count
from threading import Lock
from typing import Any

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from ...runtime.tensors import Image

_LONGEST = 3600.0  # seconds that a client waits for one result
_ERRORS = (OSError, HTTPException, InferenceServerException)
"""What a client raises where a server refuses, does not answer, or ends."""


@dataclass(frozen=True)
class Load:
    """What the clients saw."""

    seconds: tuple[float, ...]
    """Of each request that was answered, in the order of the answers."""

    failures: tuple[str, ...]
    """The reasons of the requests that were refused or failed."""

    elapsed_s: float
    """From the first request to the last answer."""

    queue_s: float | None
    """Mean time that a request waited in the server; None if none was answered or the server does not tell."""

    model_s: float | None
    """Mean time in the model: networks, and copies between the server and its instance."""

    def quantile(self, share: float) -> float | None:
        """Return the time within which this share of the requests was answered: one of those measured."""
        if not self.seconds:
            return None
        return sorted(self.seconds)[max(0, math.ceil(share * len(self.seconds)) - 1)]

    @property
    def images_per_s(self) -> float:
        """Answered requests in a second, of all clients together."""
        return len(self.seconds) / self.elapsed_s


def check_model(url: str, model: str) -> None:
    """Raise ValueError of one line unless a server answers and has the model ready."""
    try:
        with http.InferenceServerClient(url) as client:
            if not client.is_model_ready(model):
                raise ValueError(
                    f"the server at {url} must have the model {model} ready; it has not"
                )
    except _ERRORS as error:
        raise ValueError(f"no server answers at {url}: {_reason(error)}") from error


def send_requests(
    url: str,
    model: str,
    image: Image,
    *,
    steps: int,
    clients: int,
    requests: int,
    advance: Callable[[float], None],
) -> Load:
    """Send raw pixels ``requests`` times from ``clients`` threads and return what they saw."""
    before = _statistics(url, model)
    numbers, lock = count(), Lock()
    seconds: list[float] = []
    failures: list[str] = []

    def work() -> None:
        with http.InferenceServerClient(url, network_timeout=_LONGEST) as client:
            while next(numbers) < requests:
                began = time.perf_counter()
                reason = _send(client, model, image, steps)
                took = time.perf_counter() - began
                with lock:
                    if reason:
                        failures.append(reason)
                    else:
                        seconds.append(took)
                    advance(1)

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for each in [pool.submit(work) for _ in range(clients)]:
            each.result()
    elapsed = time.perf_counter() - began
    queue, inside = _means(before, _statistics(url, model))
    return Load(tuple(seconds), tuple(failures), elapsed, queue, inside)


def _send(client: Any, model: str, image: Image, steps: int) -> str:
    """Send one request; return why it failed, empty if it was answered."""
    inputs = [
        http.InferInput("pixels", image.shape, "UINT8"),
        http.InferInput("steps", [1], "INT64"),
    ]
    inputs[0].set_data_from_numpy(image)
    inputs[1].set_data_from_numpy(np.array([steps], np.int64))
    try:
        client.infer(model, inputs)
    except _ERRORS as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _statistics(url: str, model: str) -> tuple[int, ...] | None:
    """Return how many requests all versions of a model have answered, and the nanoseconds in queue and model.

    None if the server does not tell.
    """
    try:
        with http.InferenceServerClient(url) as client:
            versions = client.get_inference_statistics(model)["model_stats"]
    except _ERRORS:
        return None
    fields = (("success", "count"), ("queue", "ns"), ("compute_infer", "ns"))
    return tuple(sum(int(each["inference_stats"][a][b]) for each in versions) for a, b in fields)


def _means(
    before: Sequence[int] | None, after: Sequence[int] | None
) -> tuple[float | None, float | None]:
    if before is None or after is None:
        return None, None
    answered, queue, inside = (b - a for a, b in zip(before, after, strict=True))
    return (queue / answered / 1e9, inside / answered / 1e9) if answered else (None, None)
