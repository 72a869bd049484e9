"""Devices that are predicted: the vendors' published figures, each with its source."""

import difflib
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

_FILE = Path(__file__).with_name("devices.json")


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """The vendor's document that holds a figure."""

    document: str
    read: str
    """Where the figure was read."""

    url: str = ""
    """Empty where only a quotation is known."""


class Figure(Struct, frozen=True, forbid_unknown_fields=True):
    """A published number."""

    value: float
    source: str
    """A key of ``Catalogue.sources``."""

    note: str = ""
    """How it follows from what the document prints, where it does not print it."""


class Device(Struct, frozen=True, forbid_unknown_fields=True):
    """A device; a figure for which no source was found is None or missing."""

    name: str
    """On the command line."""

    title: str
    group: str
    rates: dict[str, Figure]
    """Dense peak rate by precision, 1e12 operations per second; a multiply-accumulate is two."""

    bandwidth: Figure | None = None
    """Of the memory, GB/s."""

    memory: Figure | None = None
    """GB."""

    power: Figure | None = None
    """Of the board, the module or the package, W."""

    shares_memory: bool = False
    """Whether the operating system and all programs use the same memory."""

    note: str = ""

    def missing(self, precision: str) -> str:
        """Return which figure a prediction in this precision lacks; empty if it has all it needs."""
        if precision not in self.rates:
            known = ", ".join(self.rates) or "none"
            return f"no published {precision} rate was found for {self.name}, only of: {known}"
        return "" if self.bandwidth else f"no published bandwidth was found for {self.name}"


class Catalogue(Struct, frozen=True, forbid_unknown_fields=True):
    """The data file."""

    about: str
    sources: dict[str, Source]
    devices: tuple[Device, ...]

    def find(self, names: Iterable[str]) -> tuple[Device, ...]:
        """Return devices by name, each once; ``all`` is every one.

        Raises ValueError for an unknown name, with the names near it.
        """
        known = {device.name: device for device in self.devices}
        found: dict[str, Device] = {}
        for name in names:
            if name != "all" and name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
                hint = f"; near it: {', '.join(near)}" if near else ""
                raise ValueError(f"device must be one that --list names, got '{name}'{hint}")
            found |= known if name == "all" else {name: known[name]}
        return tuple(found.values())


def read_catalogue() -> Catalogue:
    """Read the data file."""
    return msgspec.json.decode(_FILE.read_bytes(), type=Catalogue)
