"""Keeps mapped weights out of memory while a network is compiled or imported.

OpenVINO maps the file of the weights and copies each of them into the order that its kernels read. Its
pages stay in memory after that, another 4.5 GiB for the official denoiser in float32, although nothing
needs them. Linux drops such pages when memory is short; a process that drops them itself needs less.
"""

import ctypes
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INTERVAL = 0.1  # seconds; a tenth of a second maps at most 300 MB from a fast disk


@contextmanager
def dropping_pages(weights: Path | None) -> Iterator[None]:
    """Drop the mapped pages of a file again and again during the block, and at its end; Linux only."""
    if weights is None or sys.platform != "linux":
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_drop_until, args=(done, weights), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _drop_until(done: threading.Event, weights: Path) -> None:
    libc, path = ctypes.CDLL(None), os.fsencode(weights.resolve())
    while True:
        is_last = done.wait(_INTERVAL)
        for start, end in _mappings(path):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
        if is_last:
            return


def _mappings(path: bytes) -> Iterator[tuple[int, int]]:
    """Yield the address ranges at which this process maps a file read-only; they hold no changes."""
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        fields = line.split(None, 5)  # range, permissions, offset, device, inode, path
        if len(fields) == 6 and fields[5] == path and fields[1].startswith(b"r-"):
            start, _, end = fields[0].partition(b"-")
            yield int(start, 16), int(end, 16)
