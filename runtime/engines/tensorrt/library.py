"""The TensorRT of this process: TensorRT itself, or TensorRT-RTX, which has the same Python API.

Polygraphy reads which one when it is imported, from an environment variable, and keeps to it.
"""

import importlib
import os
from typing import Literal, get_args

from ...errors import EngineError

Library = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[Library, ...] = get_args(Library)

_SWITCH = "POLYGRAPHY_USE_TENSORRT_RTX"


def select_library(name: Library) -> None:
    """Make a library this process's TensorRT; the files that use it may be imported afterwards.

    Raise ModuleNotFoundError if it or Polygraphy is not installed, and EngineError if this process
    uses the other library.
    """
    importlib.import_module(name.replace("-", "_"))
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = str(int(name == "tensorrt-rtx"))
    used = selected_library()
    if used != name:
        os.environ[_SWITCH] = before or "0"
        raise EngineError(
            f"a process uses one library, TensorRT or TensorRT-RTX, and this one uses {used}; "
            f"start another process for {name}"
        )


def selected_library() -> Library:
    """Return the library that this process uses."""
    from polygraphy import config

    return "tensorrt-rtx" if config.USE_TENSORRT_RTX else "tensorrt"
