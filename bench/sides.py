"""Devices and precisions on the command line: what the bundles of a comparison run on."""

from collections.abc import Sequence
from dataclasses import dataclass

import click

from ..runtime.engines.device import DEVICES
from .measure.calls import runs_on_host

PRECISIONS = ("auto", "fp32", "bf16")
"""What a network can compute in on a CPU; ``auto``: what its engine takes on this processor."""


@dataclass(frozen=True)
class Side:
    """A device, and the precision that is asked of it."""

    device: str
    precision: str = ""
    """One of PRECISIONS; empty on a GPU, where it is the bundle's."""

    @property
    def name(self) -> str:
        """The side in reports."""
        return f"{self.device}, {self.precision}" if self.precision else self.device


device_option = click.option(
    "--device", "devices", type=click.Choice(DEVICES), multiple=True, default=("cpu",),
    show_default=True, help="Device of the bundles; may be repeated.",
)  # fmt: skip

precision_option = click.option(
    "--precision", "precisions", type=click.Choice(PRECISIONS), multiple=True, default=("auto",),
    show_default=True, help="What networks compute in on the devices of CPUs; may be repeated. "
    "auto: what the engine takes on this processor; cpu computes in fp32 only.",
)  # fmt: skip


def find_sides(devices: Sequence[str], precisions: Sequence[str]) -> tuple[Side, ...]:
    """Return a side for every device and precision that go together, each once.

    Raises UsageError where a device or a precision would have none.
    """
    found = [
        (device, precision, _side(device, precision))
        for device in devices
        for precision in precisions
    ]
    for device in devices:
        if not any(side for name, _, side in found if name == device):
            raise click.UsageError(
                f"--device {device} computes in fp32 only, got --precision {precisions[0]}; "
                "add --precision fp32"
            )
    for precision in precisions:
        if not any(side for _, name, side in found if name == precision):
            raise click.UsageError(
                f"--precision {precision} is for devices of CPUs, got --device {devices[0]}, where "
                "the precision is the bundle's"
            )
    return tuple(dict.fromkeys(side for _, _, side in found if side))


def _side(device: str, precision: str) -> Side | None:
    if not runs_on_host(device):
        return Side(device) if precision == "auto" else None
    if device == "cpu":
        return None if precision == "bf16" else Side(device, "fp32")
    return Side(device, precision)
