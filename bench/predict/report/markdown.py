"""Predictions as tables in Markdown. Every table says that it is predicted."""

from collections.abc import Iterable, Iterator

from ...rounding import NOTHING, gibibytes, percent, significant
from ...tables import markdown_table
from ..devices import Catalogue, Device, Figure
from ..predictions import Prediction, Predictions
from ..roofline import Bound

_BACKENDS = {
    "engine": "an engine that fuses norms and activations",
    "torch": "torch, each operation on its own",
}
_NOTES = """\
- Nothing on this page was measured on these devices. Latency: a lower bound, the sum over all layers of the longer of \
multiply-accumulates at the published dense peak rate and bytes at the published bandwidth; networks alone, one image at a \
time, without the loop around them, files and launches. A real run takes longer: see the measured errors in the \
documentation.
- Memory: all weights and the largest intermediate results of any network, untiled, in this precision; without libraries and \
workspaces. "fits" compares it with the whole memory of the device, of which an operating system takes a part.
- Energy: the predicted latency at full board, module or package power: an upper bound for that time.
- A dash: no source was found for a figure of the device."""


def tables(found: Predictions) -> Iterator[str]:
    """Yield the tables of a run: latency of all devices if there are several, then each device."""
    if len(found.devices) > 1:
        yield f"## {_title(found, 'latency of an image')} [s, at least]\n\n{_summary(found)}"
    for device in found.devices:
        yield f"## {_title(found, device.title)}\n\n{_table(found, device)}"


def page(found: Predictions, catalogue: Catalogue) -> str:
    """Return the whole document."""
    parts = [
        "# Predicted latency, memory and energy",
        _NOTES,
        *tables(found),
        "## Published figures of the devices",
        devices_table(found.devices),
        _sources(found.devices, catalogue),
    ]
    return "\n\n".join(parts) + "\n"


def devices_table(devices: Iterable[Device]) -> str:
    """Return the published figures of devices."""
    precisions = ("fp32", "tf32", "fp16", "bf16", "int8")
    head = ("device", "name", *precisions, "GB/s", "GB", "W")
    rows = [
        (
            device.title,
            device.name,
            *(_figure(device.rates.get(name)) for name in precisions),
            *map(_figure, (device.bandwidth, device.memory, device.power)),
        )
        for device in devices
    ]
    return (
        "Dense peak rates in 1e12 operations per second (a multiply-accumulate is two).\n\n"
        + markdown_table(head, rows)
    )


def _title(found: Predictions, subject: str) -> str:
    return (
        f"Predicted: {subject}, {found.precision}, {found.size} x {found.size} pixels, "
        f"{_BACKENDS[found.backend]}"
    )


def _summary(found: Predictions) -> str:
    head = ("predicted, device", *(subject.title for subject in found.subjects))
    return markdown_table(
        head,
        [
            (device.title, *(significant(row.seconds) for row in found.of(device)))
            for device in found.devices
        ],
    )


def _table(found: Predictions, device: Device) -> str:
    rows = found.of(device)
    if rows[0].missing:
        return f"Not predicted: {rows[0].missing}."
    head = (
        "predicted", "calls", "GMAC", "latency, at least [s]", "waits for memory [%]",
        "memory [GiB]", "fits", "energy, at most [J]",
    )  # fmt: skip
    if len(found.subjects) == 1:
        (row,) = rows
        lines = [*(_stage(each, device) for each in row.networks), _row(row, found)]
    else:
        lines = [_row(row, found) for row in rows]
    return markdown_table(head, lines)


def _row(row: Prediction, found: Predictions) -> tuple[str, ...]:
    gmac = next(subject.gmac for subject in found.subjects if subject.name == row.subject)
    return (
        row.title,
        NOTHING,
        significant(gmac, 4),
        significant(row.seconds),
        percent(row.memory_bound_share),
        gibibytes(row.memory_bytes),
        NOTHING if row.fits is None else "yes" if row.fits else "no",
        significant(row.energy_j),
    )


def _stage(each: Bound, device: Device) -> tuple[str, ...]:
    energy = each.seconds * device.power.value if device.power else None
    return (
        each.network,
        str(each.calls),
        significant(each.calls * each.gmac, 4),
        significant(each.seconds),
        percent(each.memory_bound_share),
        NOTHING,
        NOTHING,
        significant(energy),
    )


def _figure(figure: Figure | None) -> str:
    return NOTHING if figure is None else f"{figure.value:g}"


def _sources(devices: Iterable[Device], catalogue: Catalogue) -> str:
    """Return where each figure is from, and how those follow that no document prints."""
    lines, used = [], {}
    for device in devices:
        figures = {
            **device.rates,
            "bandwidth": device.bandwidth,
            "memory": device.memory,
            "power": device.power,
        }
        for name, figure in figures.items():
            if figure is not None:
                used[figure.source] = catalogue.sources[figure.source]
                note = f"; {figure.note}" if figure.note else ""
                lines.append(f"- {device.name}, {name}: {figure.source}{note}")
        lines += [f"- {device.name}: {device.note}"] if device.note else []
    documents = [
        f"- {key}: {source.document}{f', <{source.url}>' if source.url else ''}. Read: {source.read}."
        for key, source in used.items()
    ]
    return "\n".join([*lines, "", *documents])
