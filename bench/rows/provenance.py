"""Format the provenance of results."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..rounding import NOTHING, gibibytes, one_line, significant
from .results import Results

_NAMES = {
    "machine": "machine",
    "platform": "platform",
    "cpu": "CPU",
    "cores": "cores",
    "threads": "threads",
    "memory_bytes": "memory",
    "gpu": "GPU",
    "driver": "driver",
    "matmul_tmac_s": "matrix product [TMAC/s]",
    "versions": "versions",
    "commit": "commit",
    "command": "command",
    "time": "time",
}


def provenance(results: Results) -> Iterator[tuple[str, str]]:
    """Yield names and values in a fixed order; unknown fields come last."""
    found = results.provenance
    for key in dict.fromkeys((*_NAMES, *found)):
        yield _NAMES.get(key, key), one_line(_words(key, found.get(key)))


def _words(key: str, value: Any) -> str:
    if value is None or value == "":
        return NOTHING
    if key == "memory_bytes":
        return f"{gibibytes(value)} GiB"
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(name, item)}" for name, item in value.items()) or NOTHING
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(_words("", item) for item in value) or NOTHING
    return str(value)
