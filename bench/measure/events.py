"""Time the work of a torch device without waiting for it."""

import time

import torch
from torch import Tensor

from ..systems.system import Call

Event = float | torch.cuda.Event


def record_event(device: torch.device) -> Event:
    """Record the moment when the device has finished all work so far."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def between(before: Event, after: Event) -> float:
    """Return the seconds between two events. The device must have passed both."""
    if isinstance(before, float) and isinstance(after, float):
        return after - before
    return float(before.elapsed_time(after)) / 1e3  # type: ignore[union-attr, arg-type]


class TimedCalls:
    """Run networks and record events around each call."""

    def __init__(self, call: Call, device: torch.device) -> None:
        self._call, self._device = call, device
        self._events: list[tuple[str, Event, Event]] = []

    def __call__(self, network: str, /, **inputs: Tensor) -> tuple[Tensor, ...]:
        before = record_event(self._device)
        found = self._call(network, **inputs)
        self._events.append((network, before, record_event(self._device)))
        return found

    def seconds(self) -> list[tuple[str, float]]:
        """Return network and seconds of each call, in order. The device must have passed all events."""
        return [(network, between(before, after)) for network, before, after in self._events]
