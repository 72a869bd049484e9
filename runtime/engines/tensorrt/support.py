"""Supported versions and GPUs of TensorRT and TensorRT-RTX, without importing them.

The facts come from NVIDIA's documentation of TensorRT 10.3 to 11.4.1 and TensorRT-RTX 1.7.
"""

import re
from typing import Literal

from .library import Library
from .options import BuildOptions

OLDEST = (10, 3)
ATTENTION = (10, 14)  # the first parser that reads opset 23's Attention as one operator
JETSON_AGAIN = (11, 4, 1)  # 11.0 to 11.4.0 support no JetPack


def numbers(version: str) -> tuple[int, ...]:
    """Return a version such as 10.16.1.11.post1 as numbers: (10, 16, 1, 11)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def target_of(library: Library, version: str) -> Literal["tensorrt", "tensorrt-10.3"]:
    """Return the target whose graphs this library reads: with whole Attention or without."""
    if library == "tensorrt-rtx" or numbers(version) >= ATTENTION:
        return "tensorrt"
    return "tensorrt-10.3"


def refusal(version: str, jetpack: str | None, library: Library = "tensorrt") -> str | None:
    """Return why this version cannot be used here, in one line, or None.

    ``jetpack`` is None on machines other than a Jetson.
    """
    if library == "tensorrt-rtx":
        return jetpack and "TensorRT-RTX does not support Jetson; use --device tensorrt"
    found = numbers(version)
    if found < OLDEST:
        return f"TensorRT must be 10.3 or newer, got {version}"
    if jetpack is None or found < (11,):
        return None
    if found < JETSON_AGAIN:
        return (
            f"TensorRT {version} does not support Jetson: 11.0 to 11.4.0 have no JetPack; use the "
            "10.x of your JetPack, or 11.4.1 or newer with JetPack 7.2.2 or newer"
        )
    # The Linux release gives the major number only: accept 7.
    if numbers(jetpack) and numbers(jetpack) != (7,) and numbers(jetpack) < (7, 2, 2):
        return (
            f"TensorRT {version} needs JetPack 7.2.2 or newer, got JetPack {jetpack}; "
            "use the TensorRT 10.x that came with it"
        )
    return None


def option_refusal(
    options: BuildOptions, library: Library, *, is_jetson: bool = False, is_ahead: bool = False
) -> str | None:
    """Return which option cannot be used with this library or machine, in one line, or None."""
    if is_jetson and options.gpus != "this":
        return "a Jetson cannot build engines for other GPUs; leave out " + _gpus_word(options)
    if library == "tensorrt-rtx" and options.gpus != "this":
        return (
            f"TensorRT-RTX has no {_gpus_word(options)}; build ahead of time for a list of GPUs "
            "instead, such as sm86,sm89"
        )
    if library == "tensorrt-rtx" and options.is_version_compatible:
        return "TensorRT-RTX has no version-compatible; leave it out"
    if is_ahead and options.is_stripped:
        return "engines built ahead of time hold their weights; leave out stripped"
    return None


def _gpus_word(options: BuildOptions) -> str:
    return "same-capability" if options.gpus == "same-capability" else "hardware-compatible"
