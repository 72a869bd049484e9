"""The tables of ``dossr-bench pipeline``, in Markdown."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ..comparison import STAGES, Comparison, Side, times
from .rounding import NOTHING, gibibytes, one_line, percent, significant

Cell = Callable[[Side], str]


def sides_text(found: Comparison) -> str:
    """Both tables, and what must be known to read them."""
    blocks = [_table(found.sides, _figures(found))]
    ran = tuple(side for side in found.sides if not side.failed)
    if ran:
        blocks.append(_table(ran, _stages(ran)))
    return "\n\n".join([*blocks, "\n".join(_notes(found))])


def _figures(found: Comparison) -> Iterator[tuple[str, Cell]]:
    unit, factor = _unit(side.percentile(50) for side in found.sides)

    def median(side: Side) -> str:
        return f"failed: {side.failed}" if side.failed else _scaled(side.percentile(50), factor)

    def ratio(rival: Side, side: Side) -> str:
        return significant(times(rival, side))

    yield f"picture, p50 ({unit})", median
    yield f"picture, p90 ({unit})", lambda side: _scaled(side.percentile(90), factor)
    yield "first picture (s)", lambda side: significant(side.first_s)
    yield "loading (s)", lambda side: significant(side.load_s)
    yield "memory (GiB)", lambda side: gibibytes(side.memory_bytes)
    yield "GMAC", lambda side: significant(side.gmac, 4)
    yield "of the matrix product (%)", lambda side: percent(found.peak_share(side))
    for rival in found.rivals:
        yield f"times as fast as {rival.name}", partial(ratio, rival)
    yield "PSNR (dB)", lambda side: significant(side.psnr)
    yield "largest difference, of 255", lambda side: _whole(side.largest)


def _stages(ran: tuple[Side, ...]) -> Iterator[tuple[str, Cell]]:
    medians = [side.stage_medians() for side in ran]
    unit, factor = _unit(seconds for stages in medians for seconds in stages.values())

    def median(name: str, side: Side) -> str:
        return _scaled(side.stage_medians().get(name), factor)

    for name in STAGES:
        if any(name in stages for stages in medians):
            yield f"{name} ({unit})", partial(median, name)
    yield "outside the networks (%)", lambda side: percent(side.outside_share())


def _notes(found: Comparison) -> Iterator[str]:
    yield (
        f"{found.size} x {found.size} pixels, {found.steps} steps; {found.repetitions} pictures "
        f"after the first and {found.warmup} more, stages of {found.repetitions} others"
    )
    rates = [f"{name} {significant(rate)}" for name, rate in found.matmul_tmac_s.items()]
    yield f"matrix product (TMAC/s): {', '.join(rates) or 'not measured'}"
    reference, base = found.sides[0], found.base
    if reference.failed and base:
        yield f"{reference.name} failed: ratios and pictures are held against {base.name}"


def _table(sides: tuple[Side, ...], rows: Iterable[tuple[str, Cell]]) -> str:
    lines = [["", *(f"{side.name}, {side.precision}, {side.device}" for side in sides)]]
    lines += [[name, *(cell(side) for side in sides)] for name, cell in rows]
    head, *body = (f"| {' | '.join(map(_escape, line))} |" for line in lines)
    return "\n".join([head, f"| :-- |{' --: |' * len(sides)}", *body])


def _unit(seconds: Iterable[float | None]) -> tuple[str, float]:
    """What the longest of them reads well in, and how many of it are a second."""
    longest = max((each for each in seconds if each is not None), default=0.0)
    return ("s", 1.0) if longest >= 1.0 else ("ms", 1e3)


def _scaled(seconds: float | None, factor: float) -> str:
    return NOTHING if seconds is None else significant(seconds * factor)


def _whole(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def _escape(cell: str) -> str:
    return one_line(cell).replace("|", "\\|")
