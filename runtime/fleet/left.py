"""What earlier runs left to do, from the manifest and the results that are there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from ..cli.arguments import Arguments
from .inputs import Item, existing
from .places import Place
from .records import OVERWRITING, RUN, Records, Row, new_run


@dataclass(frozen=True)
class Left:
    """What a run has to do."""

    run: str
    """Name of the run; that of the earlier one which it continues, if it does."""

    todo: tuple[Item, ...]

    found: tuple[Row, ...]
    """Results that are there and in no row."""


def find_left(
    arguments: Arguments,
    items: Sequence[Item],
    output: Place,
    records: Records,
    options: Mapping[str, Any],
) -> Left:
    """Return the images that are not done; raise click.UsageError if results would be mixed.

    ``options``: what the results are made with. With ``--overwrite`` all is to do, but for what an
    interrupted run with ``--overwrite`` and the same options has done.
    """
    before = records.settings()
    recorded = records.rows() if before is not None else {}
    there = existing(items, output)
    done = [item for item in items if item.target in there]
    if arguments.overwrite:
        return _to_replace(items, done, recorded, before, options)
    if before is None:
        if done and not arguments.skip_existing:
            name = output.below(done[0].target).name
            raise click.UsageError(
                f"{name}{_more(done)} exists; pass --overwrite or --skip-existing"
            )
    elif done or any(row.error is None for row in recorded.values()):
        _check_same(before, options, records.place)
        _check_run(before, done, recorded, output)
    run = str(before[RUN]) if before and _is_same(before, options) else new_run()
    unknown = [item for item in done
               if item.target not in recorded or recorded[item.target].error is not None]  # fmt: skip
    todo = tuple(item for item in items if item.target not in there)
    return Left(run, todo, _rows(unknown, run))


def _to_replace(
    items: Iterable[Item],
    done: Iterable[Item],
    recorded: Mapping[str, Row],
    before: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Left:
    """Return what a run with ``--overwrite`` has to do. Results in no row are of other options."""
    found = _rows((item for item in done if item.target not in recorded), "")
    if not before or not before[OVERWRITING] or not _is_same(before, options):
        return Left(new_run(), tuple(items), found)
    run = str(before[RUN])
    replaced = {item.target for item in done if item.target in recorded
                and recorded[item.target].run == run and recorded[item.target].error is None}  # fmt: skip
    return Left(run, tuple(item for item in items if item.target not in replaced), found)


def _rows(items: Iterable[Item], run: str) -> tuple[Row, ...]:
    return tuple(Row(item.source.name, item.target, run=run) for item in items)


def _is_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return all(before.get(name) == value for name, value in now.items())


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any], place: Place) -> None:
    """Raise click.UsageError if the results of earlier runs were made with other options."""
    for name, value in now.items():
        if before.get(name) != value:
            raise click.UsageError(
                f"{place.name} is of results with {name} {before.get(name)}, and {name} is {value} now; "
                "give another folder, or --overwrite to do all again"
            )


def _check_run(
    before: Mapping[str, Any], done: Sequence[Item], recorded: Mapping[str, Row], output: Place
) -> None:
    """Raise click.UsageError if results of another run, with other options, are among those that are there."""
    if before[OVERWRITING]:
        raise click.UsageError(
            f"a run with --overwrite into {output.name} was interrupted; give --overwrite to continue it"
        )
    others = [item for item in done
              if item.target in recorded and recorded[item.target].run != before[RUN]]  # fmt: skip
    if others:
        raise click.UsageError(
            f"{output.below(others[0].target).name}{_more(others)} was made by a run with other options; "
            "remove it, give another folder, or --overwrite to do all again"
        )


def _more(items: Sequence[Item]) -> str:
    return f" and {len(items) - 1} more" if len(items) > 1 else ""
