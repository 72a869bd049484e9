"""Devices and precisions on the command line: what the bundles of a comparison run on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ..runtime.engines.device import DEVICES, check_options
from ..runtime.engines.precision import parse_precision
from ..runtime.errors import BundleError, EngineError
from ..runtime.hardware import find_extra
from ..runtime.pipeline import Pipeline, load_pipeline
from .measure.calls import runs_on_host

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Side:
    """A device, and the precision that is asked of it."""

    device: str
    precision: str
    """``auto``, fp32, bf16 or int8, or several choices with commas: ``bf16,decoder=fp32``."""

    @property
    def name(self) -> str:
        """The side in reports; on a GPU the precision is the bundle's."""
        return f"{self.device}, {self.precision}" if runs_on_host(self.device) else self.device


device_option = click.option(
    "--device", "devices", type=click.Choice(DEVICES), multiple=True, default=("cpu",),
    show_default=True, help="Device of the bundles; may be repeated.",
)  # fmt: skip

precision_option = click.option(
    "--precision", "precisions", multiple=True, default=("auto",), metavar="PRECISION",
    show_default=True, help="auto, fp32, bf16 or int8, as in dossr-run; with commas for single stages: "
    "bf16,decoder=fp32. May be repeated: every device runs in every precision that it has.",
)  # fmt: skip


_ONE_SIDE = (
    click.option("-b", "--bundle", type=click.Path(exists=True, path_type=Path),
                 help="Bundle folder made by dossr-export.  [default: the built-in demo model]"),
    click.option("--device", type=click.Choice((*DEVICES, "auto")), default="cpu", show_default=True,
                 help="Device that runs the bundle, as in dossr-run."),
    click.option("--precision", multiple=True, metavar="[STAGE=]PRECISION",
                 help="Of the networks on a processor, as in dossr-run.  [default: auto]"),
)  # fmt: skip


def one_side(function: _Function) -> _Function:
    """Add the options of a command that runs one bundle on one device, see ``open_side``."""
    for option in reversed(_ONE_SIDE):
        function = option(function)
    return function


def open_side(bundle: Path | None, device: str, precision: Sequence[str]) -> Pipeline:
    """Open the bundle of ``one_side``; raise UsageError where it cannot be opened so."""
    try:
        return load_pipeline(bundle, device, precision=precision or "auto")
    except (BundleError, EngineError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{error}; install it with: pip install 'dossr[bench,{find_extra(device)}]'"
        ) from error


def find_sides(devices: Sequence[str], precisions: Sequence[str]) -> tuple[Side, ...]:
    """Return a side for every device and precision that go together, each once.

    Raises UsageError where a device or a precision would have none.
    """
    pairs = [(device, precision) for device in devices for precision in precisions]
    refusals = {pair: _refusal(*pair) for pair in pairs}
    for place, values in enumerate((devices, precisions)):
        for value in values:
            reasons = [refusals[pair] for pair in pairs if pair[place] == value]
            if all(reasons):
                raise click.UsageError(f"--{reasons[0]}")
    return tuple(dict.fromkeys(_side(*pair) for pair in pairs if not refusals[pair]))


def _refusal(device: str, precision: str) -> str:
    """Return why a device does not run in a precision; empty where it does.

    Raises UsageError for what is no precision.
    """
    try:
        options = parse_precision(precision.split(","))
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error
    try:
        check_options(device, None, None, options)
    except ValueError as error:
        return str(error)
    return ""


def _side(device: str, precision: str) -> Side:
    return Side(device, "fp32" if device == "cpu" else precision)


def precision_text(asked: str, taken: Mapping[str, str]) -> str:
    """Return what was asked for and, where it differs, what the stages took: ``auto (bf16)``.

    ``taken`` holds the precision of each stage; those that differ from most are named.
    """
    text = taken_text(taken)
    return asked if text in (asked, "") else f"{asked} ({text})"


def taken_text(taken: Mapping[str, str]) -> str:
    """Return the precision of most stages, and those that differ: ``bf16, decoder fp32``."""
    count = Counter(taken.values())
    if not count:
        return ""
    usual = count.most_common(1)[0][0]
    return ", ".join([usual, *(f"{name} {each}" for name, each in taken.items() if each != usual)])
