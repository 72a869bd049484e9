"""The manifest of results: one JSON line for each image, in parts, beside the results.

Parts are never changed, so that stores without appending hold them too. Of several lines with one output
the last one counts.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
from msgspec.structs import replace

from .places import Place, PlaceError

FOLDER = "_manifest"
"""Below OUT. Readers of data sets pass over names that start with an underscore."""

RUN = "run"
"""In the settings: the name of the run."""

OVERWRITING = "overwriting"
"""In the settings: whether a run with ``--overwrite`` has begun and not ended."""

_SETTINGS = "settings.json"
_SUFFIX = ".jsonl"
_LARGEST = 1 << 30  # bytes of a file of the manifest
_ROWS = 1000  # in a part
_EVERY = 10.0  # seconds between parts


class Row(msgspec.Struct, frozen=True):
    """What became of an image."""

    input: str

    output: str
    """Relative to OUT, whose spelling may differ from run to run."""

    width: int | None = None
    height: int | None = None
    frames: int | None = None
    seconds: float | None = None
    """Of reading, the networks and writing; None: the output was there already."""

    notes: tuple[str, ...] = ()
    error: str | None = None

    run: str = ""
    """Name of the run that the result is of; empty: not known."""


def new_run() -> str:
    """Return a name for a run: its time, so that names sort, and random characters."""
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"{now}-{secrets.token_hex(2)}"


class Records:
    """The manifest below the folder of results."""

    def __init__(self, output: Place) -> None:
        self.place = output.below(FOLDER)
        self._prefix = new_run()
        self._parts = 0
        self._waiting: list[Row] = []
        self._written_at = time.monotonic()

    def settings(self) -> dict[str, Any] | None:
        """Return the settings that the results were made with; None before the first run."""
        place = self.place.below(_SETTINGS)
        if not place.kind():
            return None
        found: dict[str, Any] = _decoded(place, msgspec.json.Decoder(dict[str, Any]).decode)
        return {RUN: "", OVERWRITING: False, **found}

    def begin(self, options: Mapping[str, Any], run: str, *, overwriting: bool) -> None:
        """Write the settings of a run: its options, its name, and whether older results are being replaced."""
        settings = {**options, RUN: run, OVERWRITING: overwriting}
        data = msgspec.json.format(msgspec.json.encode(settings), indent=1)
        self.place.below(_SETTINGS).write(data)

    def rows(self) -> dict[str, Row]:
        """Return the last row of each output, of all runs.

        One with an error has the run of the result before it, which is still there.
        """
        found: dict[str, Row] = {}
        for name in self.place.files():
            if name.endswith(_SUFFIX):
                part: list[Row] = _decoded(self.place.below(name), _ROWS_OF.decode_lines)
                for row in part:
                    last = found.get(row.output) if row.error is not None else None
                    found[row.output] = replace(row, run=last.run) if last else row
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows; they are written after some seconds, or when there are many."""
        self._waiting += rows
        while len(self._waiting) >= _ROWS:
            self._write(self._waiting[:_ROWS])
            del self._waiting[:_ROWS]
        if time.monotonic() - self._written_at >= _EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []

    def _write(self, rows: Sequence[Row]) -> None:
        self._parts += 1
        part = self.place.below(f"{self._prefix}-{self._parts:06d}{_SUFFIX}")
        part.write(msgspec.json.Encoder().encode_lines(rows))
        self._written_at = time.monotonic()


_ROWS_OF = msgspec.json.Decoder(Row)


def _decoded(place: Place, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(place.read(_LARGEST))
    except msgspec.MsgspecError as error:
        raise PlaceError(f"{place.name} is damaged: {error}; remove it") from error
