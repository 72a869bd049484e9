"""Padding of LR images to the sizes that the networks support."""

import numpy as np

from ..tensors import Array


def padded_size(height: int, width: int, multiple: int) -> tuple[int, int]:
    """Return the sides of an LR image after ``pad_to_multiple``."""
    return height + -height % multiple, width + -width % multiple


def pad_to_multiple(lr: Array, multiple: int) -> Array:
    """Pad (batch, channels, height, width) at the bottom and right to multiples of ``multiple``.

    Pad by reflection, or by repeating the edge if a side is not larger than its padding.
    """
    for axis in (2, 3):
        size = lr.shape[axis]
        extra = -size % multiple
        if extra:
            widths = [(0, extra if a == axis else 0) for a in range(lr.ndim)]
            lr = np.pad(lr, widths, mode="reflect" if extra < size else "edge")
    return lr
