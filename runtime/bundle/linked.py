"""Bundles whose files are links out of their folder, as in the cache of Hugging Face.

Every hash is checked through the links. But OpenVINO and some versions of ONNX Runtime (1.24.1) refuse
weights that lie outside the folder of their graph. Such a bundle is therefore read through a folder of
hard links to the same files, which takes no space and is removed when the process ends.
"""

import atexit
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from ..files import scratch_folder
from .verified import cache_folder

_folders: dict[tuple[tuple[str, int, int], ...], Path] = {}
_open = ExitStack()
_process = os.getpid()


def folder_within(root: Path, names: Iterable[str]) -> Path:
    """Return a folder in which every file lies itself: ``root``, or one of hard links.

    ``root`` is resolved. Raise OSError if the files cannot be linked, such as those of another disk.
    """
    files = {name: (root / name).resolve() for name in names}
    if all(file.is_relative_to(root) for file in files.values()):
        return root
    found = {name: file.stat() for name, file in files.items()}
    key = tuple((name, stat.st_dev, stat.st_ino) for name, stat in sorted(found.items()))
    if key not in _folders:
        folder = _open.enter_context(scratch_folder(cache_folder() / "links"))
        for name, file in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).hardlink_to(file)
        _folders[key] = folder
    return _folders[key]


@atexit.register
def _close() -> None:
    if os.getpid() == _process:  # not in a forked child
        _open.close()
