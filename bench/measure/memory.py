"""Memory of this process: its peak, and how much of that are pages of mapped files."""

import threading
from pathlib import Path

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.05  # seconds between samples


def process_peak() -> int | None:
    """Return the peak memory of this process in bytes; None where the system does not report it."""
    return _status("VmHWM").get(
        "VmHWM"
    )  # not getrusage: it includes the peak of the parent process


class MappedPeak:
    """Samples the memory of this process in a thread, until the process ends.

    The kernel keeps the peak of the whole, but not of its parts.
    """

    def __init__(self) -> None:
        self._largest, self._mapped = 0, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def bytes(self) -> int | None:
        """Return the bytes of mapped files at the largest sample; None where the system reports none."""
        self._sample()
        return self._mapped if self._largest else None

    def _watch(self) -> None:
        pause = threading.Event()
        while not pause.wait(_INTERVAL):
            self._sample()

    def _sample(self) -> None:
        found = _status("VmRSS", "RssFile")
        if found.get("VmRSS", 0) > self._largest:
            self._largest, self._mapped = found["VmRSS"], found.get("RssFile", 0)


def _status(*names: str) -> dict[str, int]:
    """Return fields of /proc/self/status in bytes; empty where there is none."""
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    fields = (line.partition(":") for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, _, value in fields if name in names}
