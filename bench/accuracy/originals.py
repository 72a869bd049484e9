"""Sharp originals: read from a folder, or scikit-image's photographs."""

from pathlib import Path

import numpy as np
from PIL import Image

from ...runtime.tensors import SCALE
from ..metrics import Pixels

SMALLEST = 64
"""Least side of an original, in pixels."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")


def photographs(size: int | None = None) -> dict[str, Pixels]:
    """Return the photographs of scikit-image (public domain or CC0); none is used for training.

    ``size`` crops them to their middle.
    """
    import skimage.data

    found = {name: np.asarray(getattr(skimage.data, name)()) for name in _PHOTOGRAPHS}
    return {name: middle(pixels, size or max(pixels.shape)) for name, pixels in found.items()}


def read_originals(folder: Path, size: int) -> dict[str, Pixels]:
    """Read every image below a folder, cropped to its middle of at most ``size`` pixels a side.

    Raises ValueError where there is no image, or one is too small or cannot be read.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES:
            try:
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
            except OSError as error:
                raise ValueError(f"cannot read {path}: {error}") from error
            if min(pixels.shape[:2]) < SMALLEST:
                raise ValueError(
                    f"originals must be at least {SMALLEST} pixels a side, {path} has "
                    f"{pixels.shape[1]} x {pixels.shape[0]}"
                )
            found[str(path.relative_to(folder))] = pixels
    if not found:
        raise ValueError(f"{folder} must have images ({', '.join(sorted(_SUFFIXES))}), none found")
    return {name: middle(pixels, size) for name, pixels in found.items()}


def middle(pixels: Pixels, size: int) -> Pixels:
    """Return the middle of an image, with sides that are multiples of four."""
    height, width = pixels.shape[:2]
    y, x = max(0, (height - size) // 2), max(0, (width - size) // 2)
    middle = pixels[y : y + size, x : x + size]
    height, width = (side // SCALE * SCALE for side in middle.shape[:2])
    return np.ascontiguousarray(middle[:height, :width, :3])
