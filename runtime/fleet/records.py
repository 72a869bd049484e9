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

from .places import Place, PlaceError

FOLDER = "_manifest"
"""Below OUT. Readers of data sets pass over names that start with an underscore."""

_SETTINGS = "settings.json"
_SUFFIX = ".jsonl"
_LARGEST = 1 << 30  # bytes of a file of the manifest
_ROWS = 1000  # in a part
_EVERY = 10.0  # seconds between parts


class Row(msgspec.Struct, frozen=True):
    """What became of an image."""

    input: str
    output: str
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    seconds: float | None = None
    """Of reading, the networks and writing; None: the output was there already."""

    notes: tuple[str, ...] = ()
    error: str | None = None


class Records:
    """The manifest below the folder of results."""

    def __init__(self, output: Place) -> None:
        self.place = output.below(FOLDER)
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self._run = f"{now}-{secrets.token_hex(2)}"
        self._parts = 0
        self._waiting: list[Row] = []
        self._written_at = time.monotonic()

    def settings(self) -> dict[str, Any] | None:
        """Return the settings that the results were made with; None before the first run."""
        place = self.place.below(_SETTINGS)
        if not place.kind():
            return None
        found: dict[str, Any] = _decoded(place, msgspec.json.Decoder(dict[str, Any]).decode)
        return found

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the settings of the run."""
        data = msgspec.json.format(msgspec.json.encode(settings), indent=1)
        self.place.below(_SETTINGS).write(data)

    def rows(self) -> dict[str, Row]:
        """Return the last row of each output, of all runs."""
        found: dict[str, Row] = {}
        for name in self.place.files():
            if name.endswith(_SUFFIX):
                part: list[Row] = _decoded(self.place.below(name), _ROWS_OF.decode_lines)
                found |= {row.output: row for row in part}
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
        part = self.place.below(f"{self._run}-{self._parts:06d}{_SUFFIX}")
        part.write(msgspec.json.Encoder().encode_lines(rows))
        self._written_at = time.monotonic()


_ROWS_OF = msgspec.json.Decoder(Row)


def _decoded(place: Place, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(place.read(_LARGEST))
    except msgspec.MsgspecError as error:
        raise PlaceError(f"{place.name} is damaged: {error}; remove it") from error
