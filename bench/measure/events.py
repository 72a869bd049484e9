"""Moments of a torch device's work, taken without waiting for it."""

import time

import torch
from torch import Tensor

from ..systems.system import Call

Event = float | torch.cuda.Event


def record_event(device: torch.device) -> Event:
    """The moment at which all that was started so far is done."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def between(before: Event, after: Event) -> float:
    """Seconds. The device must have come past both."""
    if isinstance(before, float) and isinstance(after, float):
        return after - before
    return float(before.elapsed_time(after)) / 1e3  # type: ignore[union-attr, arg-type]


class TimedCalls:
    """Runs networks and records an event around each call."""

    def __init__(self, call: Call, device: torch.device) -> None:
        self._call, self._device = call, device
        self._events: list[tuple[str, Event, Event]] = []

    def __call__(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
        before = record_event(self._device)
        found = self._call(network, **inputs)
        self._events.append((network, before, record_event(self._device)))
        return found

    def seconds(self) -> list[tuple[str, float]]:
        """Each call's network and time, in order. The device must have come past all of them."""
        return [(network, between(before, after)) for network, before, after in self._events]
