"""The report of ``dossr-bench pipeline``: tables in Markdown."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from ..rounding import NOTHING, gibibytes, percent, significant
from ..sides import precision_text
from ..tables import markdown_table
from .comparison import NETWORKS, STAGES, Comparison, Contender, speed_up

Cell = Callable[[Contender], str]

_MOMENTS = {
    "called_s": "the first network",
    "network_s": "its result",
    "image_s": "the first image",
}
"""Fields of StartTime, and how rows name them."""


def comparison_text(found: Comparison) -> str:
    """Return the table of figures, the table of stages, and notes."""
    blocks = [_table(found.contenders, _figures(found))]
    ran = tuple(contender for contender in found.contenders if not contender.failed)
    if ran:
        blocks.append(_table(ran, _stages(found, ran)))
    return "\n\n".join([*blocks, "\n".join(_notes(found))])


def _figures(found: Comparison) -> Iterator[tuple[str, Cell]]:
    unit, factor = _unit(contender.percentile(50) for contender in found.contenders)

    def median(contender: Contender) -> str:
        return (
            f"failed: {contender.failed}"
            if contender.failed
            else _scaled(contender.percentile(50), factor)
        )

    def ratio(rival: Contender, contender: Contender) -> str:
        return significant(speed_up(rival, contender))

    yield f"image, p50 ({unit})", median
    yield f"image, p90 ({unit})", lambda contender: _scaled(contender.percentile(90), factor)
    yield "first image (s)", lambda contender: significant(contender.first_s)
    yield "loading (s)", lambda contender: significant(contender.load_s)
    yield from _starts()
    yield "memory (GiB)", lambda contender: gibibytes(contender.memory_bytes)
    yield "of it mapped files (GiB)", lambda contender: gibibytes(contender.mapped_bytes)
    yield "memory, warm start (GiB)", lambda contender: gibibytes(contender.warm_memory_bytes)
    yield "weights", lambda contender: contender.weights or contender.precision
    yield "GMAC", lambda contender: significant(contender.gmac, 4)
    yield "matrix product utilization (%)", lambda contender: percent(found.utilization(contender))
    for rival in found.rivals:
        yield f"speed-up over {rival.name}", partial(ratio, rival)
    yield "error against golden vectors", lambda contender: _error(contender.golden)
    yield "PSNR (dB)", lambda contender: significant(contender.psnr)
    yield "largest difference, of 255", lambda contender: _whole(contender.largest)


def _starts() -> Iterator[tuple[str, Cell]]:
    """Return the rows of the process starts."""

    def cell(kind: str, moment: str, contender: Contender) -> str:
        start: Mapping[str, float] | None = getattr(contender, f"{kind}_start")
        return NOTHING if start is None else significant(start[moment])

    for kind in ("cold", "warm"):
        for moment, label in _MOMENTS.items():
            yield f"{kind} start to {label} (s)", partial(cell, kind, moment)


def _stages(found: Comparison, ran: tuple[Contender, ...]) -> Iterator[tuple[str, Cell]]:
    medians = [contender.stage_medians() for contender in ran]
    unit, factor = _unit(seconds for stages in medians for seconds in stages.values())

    def median(name: str, contender: Contender) -> str:
        return _scaled(contender.stage_medians().get(name), factor)

    for name in STAGES:
        if any(name in stages for stages in medians):
            yield f"{name} ({unit})", partial(median, name)
    yield "outside the networks (%)", lambda contender: percent(contender.outside_share())

    def utilization(name: str, contender: Contender) -> str:
        return percent(found.stage_utilization(contender).get(name))

    for name in NETWORKS:
        if any(name in contender.stage_gmac for contender in ran):
            yield f"{name}: matrix product utilization (%)", partial(utilization, name)


def _notes(found: Comparison) -> Iterator[str]:
    yield (
        f"{found.size} x {found.size} pixels, {found.steps} steps; {found.repetitions} images "
        f"after the first and a warm-up of {found.warmup}, stages from {found.repetitions} additional images"
    )
    rates = [f"{name} {significant(rate)}" for name, rate in found.matmul_tmac_s.items()]
    yield f"matrix product (TMAC/s): {', '.join(rates) or 'not measured'}"
    reference, base = found.contenders[0], found.base
    if reference.failed and base:
        yield f"{reference.name} failed: ratios and images are compared with {base.name}"


def _table(contenders: tuple[Contender, ...], rows: Iterable[tuple[str, Cell]]) -> str:
    names = map(_head, contenders)
    lines = ([name, *map(cell, contenders)] for name, cell in rows)
    return markdown_table(["", *names], lines)


def _head(contender: Contender) -> str:
    """Return source, precision and device; behind ``auto`` what was taken."""
    precision = precision_text(contender.precision, contender.stage_precisions)
    return f"{contender.source}, {precision}, {contender.device}"


def _unit(seconds: Iterable[float | None]) -> tuple[str, float]:
    """Return the unit that suits the longest time, and its number per second."""
    longest = max((each for each in seconds if each is not None), default=0.0)
    return ("s", 1.0) if longest >= 1.0 else ("ms", 1e3)


def _scaled(seconds: float | None, factor: float) -> str:
    return NOTHING if seconds is None else significant(seconds * factor)


def _error(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0e}"


def _whole(value: int | None) -> str:
    return NOTHING if value is None else str(value)
