"""Read HEIC with all of its bits; Pillow's plugin reduces 10 and 12 to 8."""

from typing import Any, BinaryIO

import numpy as np

from ...tensors import Array


def read_heif(file: BinaryIO) -> Array | None:
    """Return uint16 (height, width, 1 to 4), upright, of the main image; None if it has 8 bits."""
    import pillow_heif

    file.seek(0)
    image: Any = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    bits = image.info.get("bit_depth", 8)
    if not image.mode.endswith(";16"):
        return None
    levels = np.atleast_3d(np.asarray(image)) >> (16 - bits)
    pixels: Array = np.rint(levels * (65535 / ((1 << bits) - 1))).astype(np.uint16)
    return pixels
