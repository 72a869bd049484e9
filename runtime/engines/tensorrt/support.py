"""Supported versions of TensorRT, without importing it.

The facts come from NVIDIA's documentation of 10.3 to 11.4.1.
"""

import re

OLDEST = (10, 3)
ATTENTION = (10, 14)  # the first parser that reads opset 23's Attention as one operator
JETSON_AGAIN = (11, 4, 1)  # 11.0 to 11.4.0 support no JetPack


def numbers(version: str) -> tuple[int, ...]:
    """Return a version such as 10.16.1.11.post1 as numbers: (10, 16, 1, 11)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def refusal(version: str, jetpack: str | None) -> str | None:
    """Return why this version cannot be used here, in one line, or None.

    ``jetpack`` is None on machines other than a Jetson.
    """
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


def best_opset(version: str) -> int:
    """Return the ONNX operator set for this version: 23 if it reads Attention, otherwise 18."""
    return 23 if numbers(version) >= ATTENTION else 18
